package container

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/containerd/errdefs"
	ctypes "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/opencontainers/selinux/go-selinux"

	"muelle/internal/id"
	"muelle/internal/linux/cgroup"
	"muelle/internal/runtime"
)

// load brings back what the daemon knew when it ended.
func (s *Service) load(ctx context.Context) error {
	durable, err := ids(s.o.Root)
	if err != nil {
		return err
	}
	volatile, err := ids(s.o.ExecRoot)
	if err != nil {
		return err
	}
	for cid := range durable {
		s.loadRecord(cid, false)
	}
	for cid := range volatile {
		if s.byID[cid] == nil {
			s.loadRecord(cid, true)
		}
	}
	list := s.all()
	// In the order of creation, so that what happens is the same each time.
	slices.SortFunc(list, func(a, b *entry) int { return a.rec.Created.Compare(b.rec.Created) })
	for _, c := range list {
		s.regain(ctx, c)
		s.regainLoan(c)
	}
	tasks := s.adopt(ctx, list, volatile)
	if err := s.o.Networks.Adopted(ctx); err != nil {
		s.log.Error("take over networks", "err", err)
	}
	for _, c := range list {
		if !c.st.Changing {
			continue
		}
		c.st.Changing = false // saved with what Mend gives, or with the end
		if task := tasks[c]; task != nil {
			if err := s.mendNetwork(ctx, c, task); err != nil {
				s.log.Error("finish a change of networks or ports that was cut off", "container", c.id, "err", err)
			}
		}
	}
	s.finishZones(ctx, tasks)
	if err := s.o.Volumes.Settle(); err != nil {
		s.log.Error("unmount volumes that nobody uses", "err", err)
	}
	maps.Copy(durable, volatile)
	s.addStrays(durable)
	for cid := range durable {
		if s.byID[cid] == nil {
			s.cleanLeftover(cid)
		}
	}
	var due []*entry
	for _, c := range list {
		if s.resume(ctx, c, tasks[c]) {
			c.booted = make(chan struct{})
			due = append(due, c)
		}
	}
	for _, c := range due {
		s.background(func() { s.startOnBoot(c) })
	}
	return nil
}

// ids gives the containers that have a folder below dir.
func ids(dir string) (map[string]bool, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	out := make(map[string]bool, len(entries))
	for _, e := range entries {
		if e.IsDir() && id.Valid(e.Name()) {
			out[e.Name()] = true
		}
	}
	return out, nil
}

// addStrays adds containers of which only processes are left: what the records said
// of them is gone, with a disk that was put back or an exec-root that was cleared.
func (s *Service) addStrays(known map[string]bool) {
	if s.o.DefaultCgroupParent != "" || s.o.CgroupDriver == CgroupSystemd {
		return // a parent that other daemons may have too
	}
	names, err := cgroup.Children(s.o.CgroupParent)
	if err != nil {
		s.log.Warn("look for processes without a container", "err", err)
		return
	}
	for _, name := range names {
		if id.Valid(name) {
			known[name] = true
		}
	}
}

// loadRecord reads one container; a folder without a record is a leftover. One whose
// record cannot be read stays on disk and is told of.
func (s *Service) loadRecord(cid string, volatile bool) {
	c := s.newEntry(cid, volatile)
	if _, err := os.Stat(filepath.Join(c.recordDir(), recordName+".json")); errors.Is(err, os.ErrNotExist) {
		return
	}
	err := c.openRecords()
	if err == nil {
		err = c.records.Sweep()
	}
	if err == nil {
		var rec *record
		if rec, err = c.records.Load(recordName); err == nil {
			c.rec = *rec
		}
	}
	if err == nil && (c.rec.ID != cid || c.rec.Config == nil || c.rec.HostConfig == nil) {
		err = fmt.Errorf("record of container %s: %w", cid, errdefs.ErrDataLoss)
	}
	if err != nil {
		s.log.Error("load container", "container", cid, "err", err)
		s.broken = append(s.broken, cid)
		return
	}
	c.st = state{Status: ctypes.StateCreated}
	// The state is written without fsync: after a power loss it may be missing.
	if st, err := c.states.Load(stateName); err == nil {
		c.st = *st
	} else if !errdefs.IsNotFound(err) {
		s.log.Warn("load state", "container", cid, "err", err)
	}
	if owner, taken := s.byName[c.rec.Name]; taken {
		s.log.Error("two containers have the same name", "container", cid, "other", owner, "name", c.rec.Name)
		c.rec.Name = id.Short(cid)
	}
	if c.rec.Debug != nil && c.rec.Debug.Of != "" {
		c.layers = filepath.Join(s.o.Root, c.rec.Debug.Of)
	}
	s.o.UserNS.Pool.Keep(cid, c.rec.Userns)
	if c.rec.ProcessLabel != "" {
		// Containers that share processes or IPC share a label, too.
		if err := selinux.ReserveLabelV2(c.rec.ProcessLabel); err != nil && !errors.Is(err, selinux.ErrMCSAlreadyExists) {
			s.log.Error("reserve label", "container", cid, "label", c.rec.ProcessLabel, "err", err)
		}
	}
	s.byID[cid], s.byName[c.rec.Name] = c, cid
}

// regain takes again what the container holds: layers, image, volumes.
func (s *Service) regain(ctx context.Context, c *entry) {
	if c.lower, c.lowerErr = s.o.Images.Lower(ctx, c.rec.image(), c.id); c.lowerErr != nil {
		s.log.Error("find the image's layers", "container", c.id, "image", c.rec.Config.Image, "err", c.lowerErr)
	}
	if err := s.holdMountedImages(ctx, c, c.rec.Mounts); err != nil {
		s.log.Error("find the layers of a mounted image", "container", c.id, "err", err)
	}
	s.o.Images.Hold(c.rec.Image.ID, c.id, c.rec.Name, c.st.running())
	for _, m := range c.rec.Mounts {
		if m.Type != mount.TypeVolume {
			continue
		}
		if _, err := s.o.Volumes.Acquire(ctx, m.Name, c.id); err != nil {
			s.log.Error("hold volume", "container", c.id, "volume", m.Name, "err", err)
		}
	}
}

// adopt finds the processes of containers that ran, and gives the networks of those
// that still do back to the network service. Nothing may be started before.
func (s *Service) adopt(ctx context.Context, list []*entry, present map[string]bool) map[*entry]runtime.Task {
	tasks := make(map[*entry]runtime.Task, len(list))
	for _, c := range list {
		alive := c.st.alive()
		if !present[c.id] && !alive {
			continue
		}
		if !present[c.id] || !alive {
			// Another boot, or a start or a clean-up that was cut off.
			s.cleanRun(ctx, c)
			continue
		}
		task, err := s.o.Runtime.Load(ctx, c.id, c.execDir)
		if err != nil {
			if !errdefs.IsNotFound(err) {
				s.log.Error("adopt container", "container", c.id, "err", err)
			}
			s.cleanRun(ctx, c)
			continue
		}
		tasks[c] = task
		if err := s.mountVolumes(ctx, c.id, c.rec.Mounts); err != nil {
			s.log.Error("hold mounted volumes", "container", c.id, "err", err)
		}
		if task.Pid() != 0 && !c.rec.HostConfig.NetworkMode.IsContainer() {
			if err := s.adoptNetwork(ctx, c, task); err != nil {
				s.log.Error("take over the container's network", "container", c.id, "err", err)
				s.o.Networks.Spare(c.st.Endpoints)
			}
		}
	}
	return tasks
}

func (s *Service) adoptNetwork(ctx context.Context, c *entry, task runtime.Task) error {
	held, err := task.Held(ctx)
	if err != nil {
		return err
	}
	var netns *os.File
	if !c.rec.HostConfig.NetworkMode.IsHost() {
		if netns, err = task.NetNS(ctx); err != nil {
			for _, f := range held {
				f.Close()
			}
			return err
		}
	}
	endpoints := c.st.Endpoints
	if c.st.Changing {
		endpoints, _ = c.st.settled(&c.rec)
	}
	spec := sandboxSpec(&c.rec, endpoints, s.defaults.Load())
	spec.Ready = c.ready()
	spec.Detached = !c.rec.HostConfig.NetworkMode.IsHost() && !c.rec.HostConfig.NetworkMode.IsNone()
	return s.o.Networks.Adopt(ctx, spec, held, netns)
}
