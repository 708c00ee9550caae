package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/volume"
	"golang.org/x/sys/unix"

	"muelle/api"
	"muelle/internal/atomicfile"
	"muelle/internal/container/config"
	"muelle/internal/container/layer"
	"muelle/internal/container/mountpoint"
)

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
			r.Labels = config.MergeLabels(r.Labels, map[string]string{api.LabelAnonymous: ""})
		}
		if _, err := s.o.Volumes.Create(ctx, r); err != nil && !errdefs.IsAlreadyExists(err) {
			return err
		}
	}
	v, err := s.o.Volumes.Acquire(ctx, m.Name, n.c.id)
	if err != nil {
		return err
	}
	held := *m
	held.Anonymous = m.Anonymous && !m.Reused // what was there before stays if this fails
	n.acquired = append(n.acquired, held)
	m.Source, m.Driver = v.Mountpoint, v.Driver
	if m.NoCopy {
		return nil
	}
	return s.fillVolume(ctx, n, m, v)
}

// fillVolume copies what the image has at the mount's place to a volume that is
// empty. One that is mounted from elsewhere is mounted for that, so that an error of
// its mount is told when the container is made.
func (s *Service) fillVolume(ctx context.Context, n *creation, m *mountpoint.Mount, v *volume.Volume) error {
	if len(v.Options) > 0 {
		if err := s.o.Volumes.Mount(ctx, m.Name, n.c.id); err != nil {
			return fmt.Errorf("failed to populate volume: %w", err)
		}
		defer s.unmountVolumes(n.c.id, []mountpoint.Mount{*m})
		if readOnly(v.Mountpoint) {
			return nil
		}
	}
	// Beside the content of an ordinary volume, inside that of one mounted from
	// elsewhere: it must be the same file system.
	stage := v.Mountpoint + ".copy"
	if len(v.Options) > 0 {
		stage = filepath.Join(v.Mountpoint, ".muelle-copy")
	}
	empty, err := isEmpty(v.Mountpoint, filepath.Base(stage))
	if err != nil || !empty {
		return err
	}
	if err := layer.CopyUp(ctx, n.c.lower, m.Destination, v.Mountpoint, stage); err != nil {
		return fmt.Errorf("copy the image's %s to volume %s: %w", m.Destination, m.Name, err)
	}
	return nil
}

func readOnly(dir string) bool {
	var st unix.Statfs_t
	return unix.Statfs(dir, &st) == nil && st.Flags&unix.ST_RDONLY != 0
}

// isEmpty tells whether a folder has nothing, or only what a copy left that was cut off.
func isEmpty(dir, stage string) (bool, error) {
	f, err := os.Open(dir)
	if err != nil {
		return false, fmt.Errorf("open volume: %w", err)
	}
	defer f.Close()
	names, _ := f.Readdirnames(2)
	return len(names) == 0 || len(names) == 1 && names[0] == stage, nil
}

// releaseVolumes ends a container's hold on its volumes; anonymous ones are
// removed too if asked for, unless another container has them.
func (s *Service) releaseVolumes(ctx context.Context, cid string, mounts []mountpoint.Mount, remove bool) {
	for _, m := range mounts {
		if m.Type != mount.TypeVolume {
			continue
		}
		s.o.Volumes.Release(ctx, m.Name, cid)
		if remove && m.Anonymous {
			s.removeAnonymous(ctx, cid, m.Name)
		}
	}
}

func (s *Service) removeAnonymous(ctx context.Context, cid, name string) {
	err := s.o.Volumes.Remove(ctx, name, false)
	if err != nil && !errdefs.IsNotFound(err) && !errdefs.IsConflict(err) {
		s.log.Warn("remove anonymous volume", "container", cid, "volume", name, "err", err)
	}
}

// anonymousNote lists a container's anonymous volumes beside its layer. A daemon that
// finds it without the container's record removes them: the creation or the removal
// was cut off, or the record went with the boot.
func (c *entry) anonymousNote() string { return filepath.Join(c.dir, "anonymous-volumes") }

func (c *entry) noteAnonymous(mounts []mountpoint.Mount) error {
	var names []string
	for _, m := range mounts {
		if m.Type == mount.TypeVolume && m.Anonymous && !m.Reused {
			names = append(names, m.Name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	return atomicfile.WriteNoSync(c.anonymousNote(), []byte(strings.Join(names, "\n")), 0o600)
}

func (c *entry) anonymousNoted() []string {
	data, err := os.ReadFile(c.anonymousNote())
	if err != nil {
		return nil
	}
	return strings.Fields(string(data))
}

// keepAnonymous lets them outlive the container.
func (c *entry) keepAnonymous() error {
	if err := os.Remove(c.anonymousNote()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("keep anonymous volumes: %w", err)
	}
	return nil
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
