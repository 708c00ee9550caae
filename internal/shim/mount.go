package shim

import (
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"muelle/internal/linux/spawn"
	"muelle/internal/shimapi"
)

// Every mount below the container's root goes one way: a detached tree is made,
// given its attributes, and attached to a descriptor of its mount point, which was
// opened inside the root. No path is resolved twice, so there is nothing to race
// with (CVE-2021-30465), and a tree may be idmapped on the way.

// mountOne makes one mount of the document, or puts it off for the child.
func (i *isolation) mountOne(n int) error {
	m := &i.m.Mounts[n]
	dest := path.Clean("/" + m.Destination)
	m.Destination = dest
	what := func() string { return "mount " + quote(m.Source) + " to " + quote(dest) }
	if dest == "/" {
		return &failure{code: 128, text: what() + ": the root cannot be a mount point"}
	}
	putOff := !i.inside && (m.Type == "proc" || i.isLate(dest))
	tree, isDir := -1, true
	var err error
	if m.Bind || m.Type == "overlay" {
		if tree, isDir, err = i.sourceTree(n); err != nil {
			return wrap(what(), err)
		}
	} else if !putOff {
		if tree, err = newTree(m); err != nil {
			return wrap(what(), err)
		}
		if i.user >= 0 && m.Type == "devpts" {
			// The kernel gives it to the host's root, whoever mounts it.
			if err := unix.Fchownat(tree, "", int(hostID(i.m.UIDs, 0)), int(hostID(i.m.GIDs, 0)), unix.AT_EMPTY_PATH); err != nil {
				unix.Close(tree)
				return wrap(what(), err)
			}
		}
	}
	if putOff {
		// Below proc there is nothing to create.
		if !i.isLate(dest) {
			if err := i.makeKernelPoint(dest); err != nil {
				return wrap(what(), err)
			}
		}
		if i.late == nil {
			i.late = make([]late, 0, 3) // proc, and what most have below it
		}
		i.late = append(i.late, late{Mount: *m, tree: tree})
		return nil
	}
	defer unix.Close(tree)
	if m.Type == "sysfs" || m.Type == "proc" {
		err = i.makeKernelPoint(dest)
		if err != nil {
			return wrap(what(), err)
		}
	}
	target, err := i.create(dest, isDir)
	if err != nil {
		return wrap(what()+": create mount point", err)
	}
	defer unix.Close(target)
	var st unix.Stat_t
	if err := unix.Fstat(target, &st); err != nil {
		return wrap(what(), err)
	}
	if (st.Mode&unix.S_IFMT == unix.S_IFDIR) != isDir {
		return &failure{code: codeOther, text: what() + ": not a directory: are you trying to mount a directory onto a file (or vice-versa)?"}
	}
	if err := attach(tree, target, m); err != nil {
		return wrap(what(), err)
	}
	return nil
}

// isLate tells whether a path lies on or below a mount that the child makes.
func (i *isolation) isLate(dest string) bool {
	dest = path.Clean("/" + dest)
	for n := range i.late {
		d := i.late[n].Destination
		if dest == d || strings.HasPrefix(dest, d+"/") {
			return true
		}
	}
	return false
}

// makeKernelPoint makes the mount point of proc or sysfs. It must be a directory
// of the image itself: a symbolic link would put the file system somewhere else
// than where the masks go (CVE-2019-19921, CVE-2023-27561).
func (i *isolation) makeKernelPoint(dest string) error {
	fd, err := openIn(i.root, dest, unix.O_PATH|unix.O_DIRECTORY, unix.RESOLVE_NO_SYMLINKS)
	if err == unix.ENOENT {
		fd, err = i.create(dest, true)
	}
	if err == unix.ELOOP || err == unix.ENOTDIR {
		return &failure{code: 128, text: dest + " of the image is not a directory"}
	}
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// sourceTree gives the tree of a bind, or of an overlay as an image's is: that has
// more options than fsconfig(2) takes on older kernels, and may be wanted in part, so
// it lies on the mount point of the root for a moment, seen by nobody else.
func (i *isolation) sourceTree(n int) (tree int, isDir bool, err error) {
	m := &i.m.Mounts[n]
	if m.Bind {
		return i.bindTree(n)
	}
	mount := mountOverlay
	if m.IDMap > 0 {
		mount = i.mountMapped
		// What the layers were attached to goes with the overlay.
		defer func() {
			if e := unix.Unmount(i.m.Root, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); e != nil && err == nil {
				unix.Close(tree)
				tree, err = -1, e
			}
		}()
	}
	if err := mount(m, i.m.Root); err != nil {
		return -1, false, err
	}
	bind := *m
	bind.Bind, bind.Source = true, i.m.Root
	tree, isDir, err = openTree(&bind)
	if e := unix.Unmount(i.m.Root, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); e != nil && err == nil {
		unix.Close(tree)
		return -1, false, e
	}
	return tree, isDir, err
}

// openTree copies the tree of a bind's source, or of a path below that.
func openTree(m *shimapi.Mount) (tree int, isDir bool, err error) {
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
	if m.Recursive {
		flags |= unix.AT_RECURSIVE
	}
	switch {
	case m.Passed:
		tree = m.Tree
	case m.Subpath == "":
		tree, err = unix.OpenTree(unix.AT_FDCWD, m.Source, flags)
	default:
		tree, err = openSubtree(m, flags)
	}
	if err != nil {
		return -1, false, err
	}
	var st unix.Stat_t
	if err = unix.Fstat(tree, &st); err == nil && !m.Passed {
		err = setDetached(tree, m)
	}
	if err != nil {
		unix.Close(tree)
		return -1, false, err
	}
	return tree, st.Mode&unix.S_IFMT == unix.S_IFDIR, nil
}

// openSubtree copies a part of the source, in which containers may have put what they
// like: no link leads out of it, and what was found is what is copied (the class of
// CVE-2021-30465).
func openSubtree(m *shimapi.Mount, flags uint) (int, error) {
	base, err := unix.Open(m.Source, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(base)
	how := &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS}
	var part int
	for range 100 { // EAGAIN: something was renamed meanwhile, and ".." is on the way
		if part, err = unix.Openat2(base, m.Subpath, how); err != unix.EAGAIN {
			break
		}
	}
	if err == unix.EXDEV {
		return -1, &failure{code: codeOther, text: "subpath " + quote(m.Subpath) + " leads out of it"}
	}
	if err != nil {
		return -1, wrap("subpath "+quote(m.Subpath), err)
	}
	defer unix.Close(part)
	return unix.OpenTree(part, "", flags|unix.AT_EMPTY_PATH)
}

// newTree makes a new file system and gives it detached.
func newTree(m *shimapi.Mount) (int, error) {
	fs, err := unix.Fsopen(m.Type, unix.FSOPEN_CLOEXEC)
	if err != nil {
		if err == unix.ENODEV {
			return -1, &failure{code: 128, text: "file system " + m.Type + " is unknown to the kernel"}
		}
		return -1, err
	}
	defer unix.Close(fs)
	if m.Source != "" {
		if err := unix.FsconfigSetString(fs, "source", m.Source); err != nil {
			return -1, explain(fs, err)
		}
	}
	label := ""
	for _, o := range m.Options {
		k, v, ok := strings.Cut(o, "=")
		if k == "context" {
			v = strings.Trim(v, `"`) // quoted for mount(2), which parts options at commas
			if m.Type == "mqueue" {
				// The kernel has made it with the IPC namespace: options come too late.
				label = v
				continue
			}
		}
		if ok {
			err = unix.FsconfigSetString(fs, k, v)
		} else {
			err = unix.FsconfigSetFlag(fs, k)
		}
		if err != nil {
			return -1, wrap("option "+quote(o), explain(fs, err))
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, explain(fs, err)
	}
	tree, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, int(attributes(m.Flags)))
	if err != nil {
		return -1, explain(fs, err)
	}
	if err = setDetached(tree, &shimapi.Mount{Propagation: m.Propagation}); err == nil && label != "" {
		err = labelTree(tree, label)
	}
	if err != nil {
		unix.Close(tree)
		return -1, err
	}
	return tree, nil
}

// labelTree gives the root of a file system a label of SELinux.
func labelTree(tree int, label string) error {
	fd, err := unix.Openat(tree, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Fsetxattr(fd, "security.selinux", []byte(label), 0); err != nil {
		return wrap("label it", err)
	}
	return nil
}

// explain adds what the file system itself says about an error.
func explain(fs int, err error) error {
	b := make([]byte, 512)
	n, e := unix.Read(fs, b)
	if e != nil || n <= 2 {
		return err
	}
	return &failure{code: 128, text: err.Error() + " (" + strings.TrimSpace(string(b[2:n])) + ")"}
}

// mountLate lets the child make or attach a mount.
func (i *isolation) mountLate(p *spawn.Program, m *late) error {
	what := "mount " + quote(m.Source) + " to " + quote(m.Destination)
	empty := p.String("")
	tree := spawn.Int(m.tree)
	if m.tree < 0 {
		p.Do(what, unix.SYS_FSOPEN, p.String(m.Type), spawn.Int(unix.FSOPEN_CLOEXEC)).Out(slotFile)
		if m.Source != "" {
			p.Do(what, unix.SYS_FSCONFIG, spawn.In(slotFile), spawn.Int(unix.FSCONFIG_SET_STRING), p.String("source"), p.String(m.Source), spawn.Int(0))
		}
		for _, o := range m.Options {
			if k, v, ok := strings.Cut(o, "="); ok {
				p.Do(what+": option "+quote(o), unix.SYS_FSCONFIG, spawn.In(slotFile), spawn.Int(unix.FSCONFIG_SET_STRING), p.String(k), p.String(v), spawn.Int(0))
			} else {
				p.Do(what+": option "+quote(o), unix.SYS_FSCONFIG, spawn.In(slotFile), spawn.Int(unix.FSCONFIG_SET_FLAG), p.String(k), spawn.Int(0), spawn.Int(0))
			}
		}
		p.Do(what, unix.SYS_FSCONFIG, spawn.In(slotFile), spawn.Int(unix.FSCONFIG_CMD_CREATE), spawn.Int(0), spawn.Int(0), spawn.Int(0))
		p.Do(what, unix.SYS_FSMOUNT, spawn.In(slotFile), spawn.Int(unix.FSMOUNT_CLOEXEC), spawn.Int(attributes(m.Flags))).Out(slotTree)
		p.Do(what, unix.SYS_CLOSE, spawn.In(slotFile))
		tree = spawn.In(slotTree)
	}
	resolve := uint64(unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS)
	if m.Type == "proc" {
		resolve |= unix.RESOLVE_NO_SYMLINKS
	}
	how := &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: resolve}
	p.Do(what, unix.SYS_OPENAT2, spawn.Int(i.root), p.String(m.Destination), spawn.Pointer(p, how), spawn.Int(unix.SizeofOpenHow)).Out(slotTarget)
	p.Do(what, unix.SYS_MOVE_MOUNT, tree, empty, spawn.In(slotTarget), empty, spawn.Int(unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH))
	p.Do(what, unix.SYS_CLOSE, spawn.In(slotTarget))
	if m.tree < 0 {
		p.Do(what, unix.SYS_CLOSE, tree)
		return nil
	}
	return remountLate(p, what, m)
}
