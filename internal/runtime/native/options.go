package native

import (
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"muelle/internal/runtime"
	"muelle/internal/shimapi"
)

// flagOptions are mount(8)'s words for flags of mount(2).
var flagOptions = map[string]struct {
	flag  uint64
	clear bool
}{
	"ro": {unix.MS_RDONLY, false}, "rw": {unix.MS_RDONLY, true},
	"nosuid": {unix.MS_NOSUID, false}, "suid": {unix.MS_NOSUID, true},
	"nodev": {unix.MS_NODEV, false}, "dev": {unix.MS_NODEV, true},
	"noexec": {unix.MS_NOEXEC, false}, "exec": {unix.MS_NOEXEC, true},
	"noatime": {unix.MS_NOATIME, false}, "atime": {unix.MS_NOATIME, true},
	"nodiratime": {unix.MS_NODIRATIME, false}, "diratime": {unix.MS_NODIRATIME, true},
	"relatime": {unix.MS_RELATIME, false}, "norelatime": {unix.MS_RELATIME, true},
	"strictatime": {unix.MS_STRICTATIME, false}, "nostrictatime": {unix.MS_STRICTATIME, true},
	"nosymfollow": {unix.MS_NOSYMFOLLOW, false}, "symfollow": {unix.MS_NOSYMFOLLOW, true},
	"defaults": {0, false},
}

var propagationOptions = map[string]uint64{
	"private": unix.MS_PRIVATE, "rprivate": unix.MS_PRIVATE | unix.MS_REC,
	"slave": unix.MS_SLAVE, "rslave": unix.MS_SLAVE | unix.MS_REC,
	"shared": unix.MS_SHARED, "rshared": unix.MS_SHARED | unix.MS_REC,
	"unbindable": unix.MS_UNBINDABLE, "runbindable": unix.MS_UNBINDABLE | unix.MS_REC,
}

// mount tells a mount's options apart.
func mount(destination, kind, source string, options []string) (shimapi.Mount, error) {
	m := shimapi.Mount{Destination: destination, Type: kind, Source: source}
	for _, o := range options {
		if f, ok := flagOptions[o]; ok {
			if f.clear {
				m.Cleared |= f.flag
				m.Flags &^= f.flag
			} else {
				m.Flags |= f.flag
				m.Cleared &^= f.flag
			}
			continue
		}
		if p, ok := propagationOptions[o]; ok {
			m.Propagation = p
			continue
		}
		switch o {
		case "bind":
			m.Bind = true
		case "rbind":
			m.Bind, m.Recursive = true, true
		case "rro":
			m.ROnly = true
		case "idmap", "ridmap":
			m.IDMap, m.IDMapAll = 1, o == "ridmap"
		case "rrw", "rnosuid", "rnodev", "rnoexec", "tmpcopyup":
			return m, errdefs.ErrNotImplemented.WithMessage("mount option " + o + " is not supported")
		case "":
		default:
			m.Options = append(m.Options, o)
		}
	}
	if kind == "bind" || kind == "none" && m.Bind {
		m.Bind = true
	}
	if m.Bind {
		m.Type = ""
		if len(m.Options) > 0 {
			// Volume drivers leave words like "volatile" of the file system below: what
			// cannot apply to a bind is a mistake, except these, which mean nothing.
			for _, o := range m.Options {
				if !strings.HasPrefix(o, "x-") && !strings.HasPrefix(o, "comment=") {
					return m, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("bind mount of %s: option %q is unknown", source, o))
				}
			}
			m.Options = nil
		}
	} else {
		// The word of an unchanged default: it has no flag in the new mount calls.
		m.Cleared = 0
	}
	return m, nil
}

func rootMounts(c *runtime.Container) ([]shimapi.Mount, error) {
	in := c.Rootfs
	if len(in) == 0 {
		if c.Spec.Root == nil || c.Spec.Root.Path == "" {
			return nil, errdefs.ErrInvalidArgument.WithMessage("container has no root file system")
		}
		in = []runtime.Mount{{Type: "bind", Source: c.Spec.Root.Path, Options: []string{"rbind"}}}
	}
	var out []shimapi.Mount
	for _, r := range in {
		m, err := mount("", r.Type, r.Source, r.Options)
		if err != nil {
			return nil, err
		}
		if m.Type == "overlay" && m.Source == "" {
			m.Source = "overlay"
		}
		out = append(out, m)
	}
	return out, nil
}
