package native

import (
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"muelle/internal/linux/userns"
	"muelle/internal/runtime"
	"muelle/internal/shimapi"
)

// makeUser passes the container's user namespace: the daemon's, or a new one with
// the maps of the document.
func (p *plan) makeUser(c *runtime.Container) error {
	// Where every id is the host's no mount is shown with others.
	if !mapOf(c.Spec.Linux.UIDMappings, c.Spec.Linux.GIDMappings).IsSame() {
		if err := userns.Supported(); err != nil {
			return errdefs.ErrNotImplemented.WithMessage(err.Error())
		}
	}
	if c.UserNS != nil {
		fd, err := rawFD(c.UserNS)
		if err != nil {
			return fmt.Errorf("pass user namespace: %w", err)
		}
		p.fds = append(p.fds, fd)
		p.joinUser(c.Spec.Linux, fd)
		return nil
	}
	m := mapOf(c.Spec.Linux.UIDMappings, c.Spec.Linux.GIDMappings)
	f, err := userns.New(m)
	if err != nil {
		return err
	}
	p.joinUser(c.Spec.Linux, int(f.Fd()))
	p.pass(f)
	return nil
}

// joinUser notes whose ids the container has. A namespace to join is described by
// the maps of the document too.
func (p *plan) joinUser(l *specs.Linux, fd int) {
	p.ids = mapOf(l.UIDMappings, l.GIDMappings)
	p.idmaps = append(p.idmaps, fd)
	p.start.UIDs, p.start.GIDs = ranges(p.ids.UIDs), ranges(p.ids.GIDs)
}

func mapOf(uids, gids []specs.LinuxIDMapping) *userns.Map {
	side := func(in []specs.LinuxIDMapping) (out []userns.Range) {
		for _, m := range in {
			out = append(out, userns.Range{Container: m.ContainerID, Host: m.HostID, Size: m.Size})
		}
		return out
	}
	return &userns.Map{UIDs: side(uids), GIDs: side(gids)}
}

func ranges(in []userns.Range) (out []shimapi.IDRange) {
	for _, r := range in {
		out = append(out, shimapi.IDRange{Container: r.Container, Host: r.Host, Size: r.Size})
	}
	return out
}

// mapMount gives a mount the map that it asks for: one of its own, or the
// container's.
func (p *plan) mapMount(one *shimapi.Mount, m specs.Mount) error {
	own := len(m.UIDMappings) > 0 || len(m.GIDMappings) > 0
	switch {
	case one.IDMap == 0 && !own:
		return nil
	case !one.Bind && (one.Type != "overlay" || p.apart):
		return errdefs.ErrInvalidArgument.WithMessage("mount of " + m.Destination + ": only binds and overlays can be shown with other ids")
	case !own && p.ids == nil:
		return errdefs.ErrInvalidArgument.WithMessage("mount of " + m.Destination + ": it is to be shown with the ids of a user namespace, and there is none")
	case !own:
		return nil
	}
	if err := userns.Supported(); err != nil {
		return errdefs.ErrNotImplemented.WithMessage(err.Error())
	}
	// The maps of a mount name the ids of the host that are seen for those on disk.
	f, err := userns.New(mapOf(m.UIDMappings, m.GIDMappings))
	if err != nil {
		return fmt.Errorf("mount of %s: %w", m.Destination, err)
	}
	p.close = append(p.close, f)
	p.idmaps = append(p.idmaps, int(f.Fd()))
	one.IDMap = len(p.idmaps)
	return nil
}
