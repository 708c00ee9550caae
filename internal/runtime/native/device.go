package native

import (
	"path"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"muelle/internal/linux/cgroup"
	"muelle/internal/runtime"
	"muelle/internal/shimapi"
)

// defaultDevices are in every container, as the OCI specification asks.
var defaultDevices = []shimapi.Device{
	{Path: "/dev/null", Mode: unix.S_IFCHR | 0o666, Number: unix.Mkdev(1, 3)},
	{Path: "/dev/zero", Mode: unix.S_IFCHR | 0o666, Number: unix.Mkdev(1, 5)},
	{Path: "/dev/full", Mode: unix.S_IFCHR | 0o666, Number: unix.Mkdev(1, 7)},
	{Path: "/dev/random", Mode: unix.S_IFCHR | 0o666, Number: unix.Mkdev(1, 8)},
	{Path: "/dev/urandom", Mode: unix.S_IFCHR | 0o666, Number: unix.Mkdev(1, 9)},
	{Path: "/dev/tty", Mode: unix.S_IFCHR | 0o666, Number: unix.Mkdev(5, 0)},
}

var defaultLinks = []shimapi.Link{
	{Path: "/dev/fd", Target: "/proc/self/fd"},
	{Path: "/dev/stdin", Target: "/proc/self/fd/0"},
	{Path: "/dev/stdout", Target: "/proc/self/fd/1"},
	{Path: "/dev/stderr", Target: "/proc/self/fd/2"},
	{Path: "/dev/core", Target: "/proc/kcore"},
	{Path: "/dev/ptmx", Target: "pts/ptmx"},
}

// devices fills /dev, unless the document binds one from elsewhere.
func (p *plan) devices(c *runtime.Container, _ *cgroup.Group) error {
	for _, m := range p.start.Mounts {
		if path.Clean(m.Destination) == "/dev" && m.Bind {
			return nil
		}
	}
	named := map[string]bool{}
	for _, d := range c.Spec.Linux.Devices {
		one, err := device(d)
		if err != nil {
			return err
		}
		if p.apart {
			p.start.Devices = append(p.start.Devices, one)
			named[d.Path] = true
			continue
		}
		// An owner that the user namespace does not have is root's, as Docker's runtime has it.
		if one.UID, _ = p.ids.HostUID(one.UID); one.UID == 0 {
			one.UID, _ = p.ids.HostUID(0)
		}
		if one.GID, _ = p.ids.HostGID(one.GID); one.GID == 0 {
			one.GID, _ = p.ids.HostGID(0)
		}
		named[d.Path] = true
		p.start.Devices = append(p.start.Devices, one)
	}
	for _, d := range defaultDevices {
		if !named[d.Path] {
			p.start.Devices = append(p.start.Devices, d)
		}
	}
	p.start.Links = append(p.start.Links, defaultLinks...)
	return nil
}

func device(d specs.LinuxDevice) (shimapi.Device, error) {
	out := shimapi.Device{Path: d.Path, Mode: 0o666, Number: unix.Mkdev(uint32(d.Major), uint32(d.Minor))}
	if d.FileMode != nil {
		out.Mode = uint32(d.FileMode.Perm())
	}
	switch d.Type {
	case "c", "u":
		out.Mode |= unix.S_IFCHR
	case "b":
		out.Mode |= unix.S_IFBLK
	case "p":
		out.Mode |= unix.S_IFIFO
		out.Number = 0
	default:
		return out, errdefs.ErrInvalidArgument.WithMessage("device " + d.Path + " of unknown type " + d.Type)
	}
	if d.UID != nil {
		out.UID = *d.UID
	}
	if d.GID != nil {
		out.GID = *d.GID
	}
	return out, nil
}
