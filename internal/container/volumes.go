package container

import (
	"context"
	"fmt"
	"os"
	"strconv"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/volume"

	"muelle/internal/container/config"
	"muelle/internal/container/layer"
	"muelle/internal/container/mountpoint"
)

// labelAnonymous marks volumes that were made without a name.
const labelAnonymous = "com.docker.volume.anonymous"

// acquireVolumes makes and holds the volumes of a new container and fills the
// empty ones with what the image has at that path.
func (n *creation) acquireVolumes(s *Service) func(context.Context) error {
	return func(ctx context.Context) error {
		for i := range n.rec.Mounts {
			m := &n.rec.Mounts[i]
			if m.Type != mount.TypeVolume {
				continue
			}
			if err := s.acquireVolume(ctx, n, m); err != nil {
				s.releaseVolumes(ctx, n.c.id, n.acquired, true)
				return err
			}
		}
		return nil
	}
}

func (s *Service) acquireVolume(ctx context.Context, n *creation, m *mountpoint.Mount) error {
	unlock := s.copyUps.lock(m.Name)
	defer unlock()
	if m.Anonymous || m.Driver != "" || len(m.DriverOpts) > 0 || len(m.Labels) > 0 {
		r := volume.CreateRequest{Name: m.Name, Driver: m.Driver, DriverOpts: m.DriverOpts, Labels: m.Labels}
		if m.Anonymous {
			r.Labels = config.MergeLabels(r.Labels, map[string]string{labelAnonymous: ""})
		}
		if _, err := s.o.Volumes.Create(ctx, r); err != nil && !errdefs.IsAlreadyExists(err) {
			return err
		}
	}
	v, err := s.o.Volumes.Acquire(ctx, m.Name, n.c.id)
	if err != nil {
		return err
	}
	n.acquired = append(n.acquired, *m)
	m.Source, m.Driver = v.Mountpoint, v.Driver
	if m.NoCopy || len(v.Options) > 0 {
		return nil
	}
	empty, err := isEmpty(v.Mountpoint)
	if err != nil || !empty {
		return err
	}
	if err := layer.CopyUp(ctx, n.c.lower, m.Destination, v.Mountpoint); err != nil {
		return fmt.Errorf("copy the image's %s to volume %s: %w", m.Destination, m.Name, err)
	}
	return nil
}

func isEmpty(dir string) (bool, error) {
	f, err := os.Open(dir)
	if err != nil {
		return false, fmt.Errorf("open volume: %w", err)
	}
	defer f.Close()
	names, _ := f.Readdirnames(1)
	return len(names) == 0, nil
}

// releaseVolumes ends a container's hold on its volumes; anonymous ones are
// removed too if asked for, unless another container has them.
func (s *Service) releaseVolumes(ctx context.Context, cid string, mounts []mountpoint.Mount, remove bool) {
	for _, m := range mounts {
		if m.Type != mount.TypeVolume {
			continue
		}
		s.o.Volumes.Release(ctx, m.Name, cid)
		if !remove || !m.Anonymous {
			continue
		}
		err := s.o.Volumes.Remove(ctx, m.Name, false)
		if err != nil && !errdefs.IsNotFound(err) && !errdefs.IsConflict(err) {
			s.log.Warn("remove anonymous volume", "container", cid, "volume", m.Name, "err", err)
		}
	}
}

// volumeEvents tells of volumes being mounted or unmounted.
func (s *Service) volumeEvents(cid string, mounts []mountpoint.Mount, action events.Action) {
	for _, m := range mounts {
		if m.Type != mount.TypeVolume {
			continue
		}
		attrs := map[string]string{"container": cid, "driver": m.Driver}
		if action == events.ActionMount {
			attrs["destination"], attrs["read/write"] = m.Destination, strconv.FormatBool(m.RW)
			attrs["propagation"] = string(m.Propagation)
		}
		s.o.Bus.Publish(events.VolumeEventType, action, m.Name, attrs)
	}
}
