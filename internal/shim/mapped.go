package shim

import (
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"muelle/internal/shimapi"
)

const mqueueMagic = 0x19800202

// layers are an overlay's, with the trees that show them mapped.
type layers struct {
	lowerTree, upperTree int
	lower                []string // relative to lowerTree
	upper, work          string   // relative to upperTree
	others               []string
}

// openMapped opens what binds and mapped layers come from while the thread still is
// where nothing is locked: in a mount namespace of a user namespace the host's
// mounts can be had only together with what covers them.
func (i *isolation) openMapped() error {
	for n, ns := range i.m.Namespaces {
		if ns.Flag == unix.CLONE_NEWUSER {
			i.user = i.joined[n]
		}
	}
	if i.user < 0 {
		return nil
	}
	i.trees = make([]int, len(i.m.Mounts))
	for n := range i.trees {
		i.trees[n] = -1
	}
	for n := range i.m.Rootfs {
		if m := &i.m.Rootfs[n]; m.IDMap > 0 {
			if err := i.openLayers(m); err != nil {
				return wrap("open layers", err)
			}
		}
	}
	for n := range i.m.Mounts {
		m := &i.m.Mounts[n]
		var err error
		if !m.Bind {
			if m.Type == "overlay" && m.IDMap > 0 {
				err = i.openLayers(m)
			}
			if err != nil {
				return wrap("mount to "+quote(m.Destination)+": open layers", err)
			}
			continue
		}
		if i.trees[n], _, err = openTree(m); err == nil {
			err = i.showMapped(i.trees[n], m)
		}
		if err != nil {
			return wrap("mount "+quote(m.Source)+" to "+quote(m.Destination), err)
		}
	}
	return nil
}

// bindTree gives a bind's tree, and whether it is a directory.
func (i *isolation) bindTree(n int) (tree int, isDir bool, err error) {
	if i.trees == nil {
		return openTree(&i.m.Mounts[n])
	}
	tree, i.trees[n] = i.trees[n], -1
	var st unix.Stat_t
	if err := unix.Fstat(tree, &st); err != nil {
		unix.Close(tree)
		return -1, false, err
	}
	return tree, st.Mode&unix.S_IFMT == unix.S_IFDIR, nil
}

// showMapped lets a detached tree show its ids with the map that a mount asks for.
func (i *isolation) showMapped(tree int, m *shimapi.Mount) error {
	// The first map is the container's own.
	if m.IDMap == 0 || m.IDMap == 1 && i.m != nil && same(i.m.UIDs) && same(i.m.GIDs) {
		return nil
	}
	if m.IDMap > len(i.idmaps) {
		return shimapi.ErrMalformed
	}
	attr := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(i.idmaps[m.IDMap-1])}
	err := error(unix.EINVAL)
	if m.IDMapAll {
		err = unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, attr)
	}
	if err == unix.EINVAL {
		// Where one of those below cannot be mapped (/proc, on a bind of /) the others stay
		// as they are too.
		err = unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, attr)
	}
	if err == unix.EINVAL || err == unix.EOPNOTSUPP {
		// A special file system has no ids worth mapping: what it shows stays the host's.
		if special(tree) {
			return nil
		}
		return &failure{code: codeOther, text: "its file system cannot be shown with the ids of a user namespace (idmapped mounts): " +
			"put the data on another one, or run the container with --userns host"}
	}
	return err
}

// same tells whether every id is the host's: then there is nothing to show otherwise,
// which is as well, for not every file system could.
func same(ids []shimapi.IDRange) bool {
	return len(ids) == 1 && ids[0] == shimapi.IDRange{Size: 1<<32 - 1}
}

// special tells a file system without files of users: proc, sysfs, cgroup, devices,
// message queues and the kernel's own.
func special(fd int) bool {
	var st unix.Statfs_t
	if unix.Fstatfs(fd, &st) != nil {
		return false
	}
	switch int64(st.Type) {
	case unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.CGROUP_SUPER_MAGIC, unix.CGROUP2_SUPER_MAGIC, unix.DEVPTS_SUPER_MAGIC,
		unix.NSFS_MAGIC, unix.DEBUGFS_MAGIC, unix.TRACEFS_MAGIC, unix.SECURITYFS_MAGIC, unix.BPF_FS_MAGIC, unix.PSTOREFS_MAGIC, mqueueMagic:
		return true
	}
	return false
}

// openLayers opens the directories that an overlay's layers lie in, mapped: one for
// all lower ones, one for the upper and its work directory, which must be on the
// same mount. A bind that is the root is one tree.
func (i *isolation) openLayers(m *shimapi.Mount) error {
	l := &layers{lowerTree: -1, upperTree: -1}
	i.layers = append(i.layers, l)
	open := func(source string, recursive bool) (int, error) {
		o := shimapi.Mount{Bind: true, Source: source, Recursive: recursive, IDMap: m.IDMap, IDMapAll: m.IDMapAll}
		tree, _, err := openTree(&o)
		if err == nil {
			err = i.showMapped(tree, &o)
		}
		if err != nil {
			closeOpen(tree)
			return -1, wrap(source, err)
		}
		return tree, nil
	}
	var err error
	if m.Type != "overlay" {
		l.lowerTree, err = open(m.Source, m.Recursive)
		return err
	}
	var upper []string
	for _, o := range m.Options {
		key, value, _ := strings.Cut(o, "=")
		switch key {
		case "lowerdir":
			l.lower = strings.Split(value, ":")
		case "upperdir":
			l.upper, upper = value, append(upper, value)
		case "workdir":
			l.work, upper = value, append(upper, value)
		default:
			l.others = append(l.others, o)
		}
	}
	common := commonDir(l.lower)
	if l.lowerTree, err = open(common+"/", false); err != nil {
		return err
	}
	for n := range l.lower {
		l.lower[n] = strings.TrimPrefix(l.lower[n], common+"/")
	}
	if len(upper) == 0 {
		return nil
	}
	common = commonDir(upper)
	if l.upperTree, err = open(common+"/", false); err != nil {
		return err
	}
	l.upper, l.work = strings.TrimPrefix(l.upper, common+"/"), strings.TrimPrefix(l.work, common+"/")
	return nil
}

// mountMapped mounts a part of the root file system whose ids are mapped. An overlay
// takes mapped layers only from mounts that are attached somewhere (before Linux
// 6.15): a file system in memory, covered by the overlay and gone with the old root,
// has the mount points.
func (i *isolation) mountMapped(m *shimapi.Mount, dir string) error {
	l := i.layers[0]
	i.layers = i.layers[1:]
	defer func() { closeOpen(l.lowerTree, l.upperTree) }()
	if m.Type != "overlay" {
		return unix.MoveMount(l.lowerTree, "", unix.AT_FDCWD, dir, unix.MOVE_MOUNT_F_EMPTY_PATH)
	}
	if err := mountAt(&shimapi.Mount{Type: "tmpfs", Source: "layers", Options: []string{"size=64k", "mode=700"}}, dir); err != nil {
		return err
	}
	for _, at := range []struct {
		name string
		tree int
	}{{"l", l.lowerTree}, {"u", l.upperTree}} {
		if at.tree < 0 {
			continue
		}
		if err := unix.Mkdir(path.Join(dir, at.name), 0o700); err != nil {
			return wrap("make mount point", err)
		}
		if err := unix.MoveMount(at.tree, "", unix.AT_FDCWD, path.Join(dir, at.name), unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
			return wrap("attach layers", err)
		}
	}
	// The thread's own working directory: it shares it with nobody.
	if err := unix.Chdir(path.Join(dir, "l")); err != nil {
		return wrap("enter layers", err)
	}
	defer unix.Chdir("/")
	if err := i.overlayHere(m, l, dir); err != nil {
		return err
	}
	return writable(m, dir)
}

// overlayHere mounts the overlay, its lower directories named from the working
// directory.
func (i *isolation) overlayHere(m *shimapi.Mount, l *layers, dir string) error {
	options := l.others
	if l.upper != "" {
		options = append(options, "upperdir=../u/"+l.upper, "workdir=../u/"+l.work)
	}
	data := strings.Join(append(options[:len(options):len(options)], "lowerdir="+strings.Join(l.lower, ":")), ",")
	const page = 4096
	if len(data) < page {
		return unix.Mount(m.Source, dir, m.Type, uintptr(m.Flags), data)
	}
	for _, lower := range l.lower {
		options = append(options, "lowerdir+="+lower)
	}
	tree, err := newTree(&shimapi.Mount{Type: m.Type, Source: m.Source, Flags: m.Flags, Options: options})
	if err != nil {
		return err
	}
	defer unix.Close(tree)
	return unix.MoveMount(tree, "", unix.AT_FDCWD, dir, unix.MOVE_MOUNT_F_EMPTY_PATH)
}

// writable makes sure that the overlay is: where the kernel cannot use an upper
// directory it makes the mount read-only and says so in its log only.
func writable(m *shimapi.Mount, dir string) error {
	if m.Flags&unix.MS_RDONLY != 0 {
		return nil
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return wrap("look at the root file system", err)
	}
	if st.Flags&unix.ST_RDONLY != 0 {
		return &failure{code: codeOther, text: "the writable layer cannot be used with the ids of a user namespace"}
	}
	return nil
}
