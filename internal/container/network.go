package container

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	ctypes "github.com/moby/moby/api/types/container"
	mnet "github.com/moby/moby/api/types/network"

	"muelle/internal/network"
	"muelle/internal/runtime"
)

// ConnectNetwork attaches a container to a further network, at once where it runs.
func (s *Service) ConnectNetwork(ctx context.Context, ref, netRef string, settings *mnet.EndpointSettings) error {
	c, err := s.find(ref)
	if err != nil {
		return err
	}
	n, err := s.o.Networks.Get(netRef)
	if err != nil {
		return err
	}
	if err := validateEndpoint(n.Name, settings); err != nil {
		return err
	}
	return s.changeEndpoints(ctx, c, func(rec *record) error {
		hc := rec.HostConfig
		switch {
		case hc.NetworkMode.IsContainer():
			return invalid("container sharing network namespace with another container or host cannot be connected to any other network")
		case hc.NetworkMode.IsHost(), n.Name == mnet.NetworkHost:
			return invalid("container cannot be disconnected from host network or connected to host network")
		}
		if _, ok := rec.Endpoints[n.Name]; ok {
			return errdefs.ErrPermissionDenied.WithMessage("endpoint with name " + rec.Name + " already exists in network " + n.Name)
		}
		delete(rec.Endpoints, mnet.NetworkNone)
		if hc.NetworkMode.IsNone() {
			host := *hc
			host.NetworkMode = ctypes.NetworkMode(n.Name)
			rec.HostConfig = &host
		}
		if settings == nil {
			settings = &mnet.EndpointSettings{}
		}
		rec.Endpoints[n.Name] = settings.Copy()
		return nil
	}, func(ctx context.Context, task runtime.Task) (*network.Change, error) {
		begun := time.Now()
		change, err := s.o.Networks.Connect(ctx, n.Name, c.id, settings, task)
		if err == nil {
			s.timers.Connect.Since(begun)
		}
		return change, err
	}, func(ctx context.Context, task runtime.Task) (*network.Change, error) {
		return s.o.Networks.Disconnect(ctx, n.Name, c.id, task)
	})
}

// DisconnectNetwork detaches a container from a network.
func (s *Service) DisconnectNetwork(ctx context.Context, ref, netRef string, force bool) error {
	c, missing := s.find(ref)
	if missing != nil && !force {
		return missing
	}
	n, err := s.o.Networks.Get(netRef)
	switch {
	case err != nil:
		return err
	case missing != nil:
		// Nothing of a container that is gone stays on a network.
		return errdefs.ErrNotFound.WithMessage("endpoint " + ref + " not found")
	}
	return s.changeEndpoints(ctx, c, func(rec *record) error {
		if _, ok := rec.Endpoints[n.Name]; !ok {
			return errdefs.ErrPermissionDenied.WithMessage("container " + c.id + " is not connected to network " + n.Name)
		}
		delete(rec.Endpoints, n.Name)
		return nil
	}, func(ctx context.Context, task runtime.Task) (*network.Change, error) {
		return s.o.Networks.Disconnect(ctx, n.Name, c.id, task)
	}, func(ctx context.Context, task runtime.Task) (*network.Change, error) {
		c.mu.Lock()
		settings := c.rec.Endpoints[n.Name]
		c.mu.Unlock()
		return s.o.Networks.Connect(ctx, n.Name, c.id, settings, task)
	})
}

// changeEndpoints changes what a container is attached to: its record, and what
// runs by the function live, which undo reverts.
func (s *Service) changeEndpoints(ctx context.Context, c *entry, change func(*record) error, live, undo func(context.Context, runtime.Task) (*network.Change, error)) error {
	if err := s.acquire(ctx, c); err != nil {
		return err
	}
	defer c.op.release()
	c.mu.Lock()
	rec, alive, removed, task := c.rec, c.st.alive() && c.task != nil, c.removed, c.task
	c.mu.Unlock()
	if removed {
		return errdefs.ErrNotFound.WithMessage("No such container: " + c.id)
	}
	endpoints := make(endpointMap, len(rec.Endpoints))
	for name, e := range rec.Endpoints {
		endpoints[name] = e
	}
	rec.Endpoints = endpoints
	if err := change(&rec); err != nil {
		return err
	}
	// A client that goes away does not leave a container half connected.
	ctx = context.WithoutCancel(ctx)
	if alive {
		defer s.changing(c)()
		ch, err := live(ctx, task)
		if err != nil {
			return err
		}
		if err := s.connected(c, ch); err != nil {
			return errors.Join(err, s.reverted(ctx, c, task, undo))
		}
	}
	if err := s.writeRecord(c, &rec); err != nil {
		if alive {
			err = errors.Join(err, s.reverted(ctx, c, task, undo))
		}
		return err
	}
	c.mu.Lock()
	c.rec = rec
	c.mu.Unlock()
	return nil
}

func (s *Service) reverted(ctx context.Context, c *entry, task runtime.Task, undo func(context.Context, runtime.Task) (*network.Change, error)) error {
	ch, err := undo(ctx, task)
	if err != nil {
		return err
	}
	return s.connected(c, ch)
}

// connected takes over a change of the networks of a container that runs: state, and
// the files that name them.
func (s *Service) connected(c *entry, ch *network.Change) error {
	c.mu.Lock()
	c.st.Endpoints, c.st.Ports = ch.Endpoints, ch.Ports
	s.save(c)
	c.mu.Unlock()
	files := c.files()
	if len(ch.AddHosts)+len(ch.DropHosts) > 0 {
		if err := rewrite(files.hosts, func(b []byte) []byte { return append(withoutLines(b, ch.DropHosts), ch.AddHosts...) }); err != nil {
			return fmt.Errorf("write the container's hosts file: %w", err)
		}
	}
	if ch.ResolvConf == nil {
		return nil
	}
	err := rewrite(files.resolvConf, func(b []byte) []byte {
		if !bytes.Equal(b, ch.OldResolvConf) {
			return b // it was changed from inside
		}
		return ch.ResolvConf
	})
	if err != nil {
		return fmt.Errorf("write the container's resolv.conf: %w", err)
	}
	return nil
}

// rewrite changes a file in its place: it is mounted in the container.
func rewrite(path string, change func([]byte) []byte) error {
	f, err := os.OpenFile(path, os.O_RDWR|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	old, err := io.ReadAll(io.LimitReader(f, 1<<20))
	if err != nil {
		return err
	}
	content := change(old)
	if bytes.Equal(old, content) {
		return nil
	}
	if _, err := f.WriteAt(content, 0); err != nil {
		return err
	}
	return f.Truncate(int64(len(content)))
}

// withoutLines leaves out each line that drop has, once.
func withoutLines(b, drop []byte) []byte {
	var kept []byte
	going := map[string]int{}
	for line := range bytes.Lines(drop) {
		going[string(line)]++
	}
	for line := range bytes.Lines(b) {
		if going[string(line)] > 0 {
			going[string(line)]--
			continue
		}
		kept = append(kept, line...)
	}
	return kept
}
