package build

import (
	"fmt"
	"os"
	"strings"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/moby/sys/mountinfo"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"muelle/internal/linux/userns"
	"muelle/internal/runtime"
)

// openUser makes the step's user namespace, where the daemon has userns-remap. The step's
// network belongs to it, unless it is the host's: over that it has no power then.
func (b *bundle) openUser() (err error) {
	if b.o.Remap == nil {
		return nil
	}
	if b.user, err = userns.New(b.o.Remap); err == nil {
		b.later(b.user.Close)
	}
	return err
}

// remap puts a step into a user namespace. Its files are shown with the map, so in layers
// and caches they keep the ids that are seen inside.
func (b *bundle) remap() (root []runtime.Mount, err error) {
	ids := func(in []userns.Range) (out []specs.LinuxIDMapping) {
		for _, r := range in {
			out = append(out, specs.LinuxIDMapping{ContainerID: r.Container, HostID: r.Host, Size: r.Size})
		}
		return out
	}
	l := b.spec.Linux
	l.UIDMappings, l.GIDMappings = ids(b.o.Remap.UIDs), ids(b.o.Remap.GIDs)
	l.Namespaces = append([]specs.LinuxNamespace{{Type: specs.UserNamespace}}, l.Namespaces...)
	for i := range b.spec.Mounts {
		if err := b.remapMount(&b.spec.Mounts[i]); err != nil {
			return nil, err
		}
	}
	// An overlay cannot be shown with a map, only the layers that it is made of: the shim
	// mounts them, and what the daemon looks at afterwards is a mount of its own again, as
	// the one from before would not know what was changed.
	var fresh []mount.Mount
	for _, m := range b.mounts {
		if m, err = layersOf(m); err != nil {
			return nil, err
		}
		fresh = append(fresh, m)
		root = append(root, runtime.Mount{Type: m.Type, Source: m.Source, Options: append(append([]string(nil), m.Options...), "idmap")})
	}
	if err := mount.UnmountAll(b.rootfs, 0); err != nil {
		return nil, err
	}
	b.later(func() error { return mount.All(fresh, b.rootfs) })
	return root, nil
}

// layersOf gives the overlay that a bind shows: BuildKit mounts a layer that is written
// once, and binds that.
func layersOf(m mount.Mount) (mount.Mount, error) {
	var on unix.Statfs_t
	if m.Type == "overlay" {
		return m, nil
	}
	if err := unix.Statfs(m.Source, &on); err != nil || int64(on.Type) != unix.OVERLAYFS_SUPER_MAGIC {
		return m, err
	}
	found, err := mountinfo.GetMounts(mountinfo.SingleEntryFilter(m.Source))
	if err != nil {
		return m, err
	}
	if len(found) == 0 {
		return m, fmt.Errorf("%s is not a mount point", m.Source)
	}
	out := mount.Mount{Type: "overlay", Source: "overlay"}
	for o := range strings.SplitSeq(found[len(found)-1].VFSOptions, ",") {
		key, value, _ := strings.Cut(o, "=")
		switch key {
		case "lowerdir", "upperdir", "workdir":
			if !strings.HasPrefix(value, "/") {
				return m, fmt.Errorf("the layers of %s are named in part: it has too many", m.Source)
			}
			out.Options = append(out.Options, o)
		}
	}
	return out, nil
}

// remapMount lets a bind show its ids with the map. Another step's or image's files, which
// are an overlay, cannot be: they are seen as nobody's. A secret lies in a file system in
// memory of its own: it is given to whom it is for.
func (b *bundle) remapMount(m *specs.Mount) error {
	if m.Type != "bind" && m.Type != "rbind" {
		return nil
	}
	var on unix.Statfs_t
	if err := unix.Statfs(m.Source, &on); err != nil {
		return fmt.Errorf("look at %s: %w", m.Destination, err)
	}
	switch int64(on.Type) {
	case unix.OVERLAYFS_SUPER_MAGIC:
		return nil
	case unix.TMPFS_MAGIC:
		return b.giveFile(m.Source)
	}
	m.Options = append(append([]string(nil), m.Options...), "idmap")
	return nil
}

func (b *bundle) giveFile(path string) error {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return err
	}
	uid, ok := b.o.Remap.HostUID(st.Uid)
	gid, known := b.o.Remap.HostGID(st.Gid)
	if st.Mode&unix.S_IFMT != unix.S_IFREG || !ok || !known {
		return nil
	}
	return os.Lchown(path, int(uid), int(gid))
}
