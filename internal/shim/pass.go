package shim

import (
	"golang.org/x/sys/unix"

	"muelle/internal/shimapi"
)

// OpenMount opens a bind's source as a detached tree with the mount's flags,
// propagation and map, for a stage that could not: in a mount namespace of a user
// namespace the host's mounts can be had only together with what covers them, and
// only the host's root shows them with other ids. idmaps are the user namespaces
// that mounts name by number. The caller closes the tree.
func OpenMount(m *shimapi.Mount, idmaps []int) (tree int, err error) {
	tree, _, err = openTree(m)
	if err != nil {
		return -1, wrap("mount "+quote(m.Source)+" to "+quote(m.Destination), err)
	}
	i := &isolation{idmaps: idmaps}
	if err := i.showMapped(tree, m); err != nil {
		unix.Close(tree)
		return -1, wrap("mount "+quote(m.Source)+" to "+quote(m.Destination), err)
	}
	return tree, nil
}

// NewMount makes a mount that is no bind, attached nowhere. The caller closes it.
func NewMount(m *shimapi.Mount) (tree int, err error) { return newTree(m) }

// takeRoot makes the passed tree of the root file system the stage's root: attached
// over what the namespace's root is, which is always a place that can be reached, or
// where the namespace is others' as well, left detached. Nothing is attached there:
// nobody else sees it, and nothing is left of it when the container ends.
func (st *stage) takeRoot() (err error) {
	if len(st.m.Start.Rootfs) != 1 || !st.m.Start.Rootfs[0].Passed {
		return &failure{code: codeOther, text: "a root file system in one passed tree is wanted"}
	}
	st.root = st.m.Start.Rootfs[0].Tree
	if st.old, err = unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return wrap("open old root", err)
	}
	if st.m.Detached {
		return st.detachRoot()
	}
	if err := unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return wrap("set propagation of /", err)
	}
	if err := unix.MoveMount(st.root, "", st.old, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH); err != nil {
		return wrap("mount root file system", err)
	}
	return nil
}

// detachRoot puts the tree on an empty file system that is attached nowhere: what is
// mounted on a tree that comes from another mount namespace the kernel refuses.
func (st *stage) detachRoot() error {
	base, err := newTree(&shimapi.Mount{Type: "tmpfs", Source: "none", Options: []string{"size=4k", "mode=555"}, Flags: unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC})
	if err != nil {
		return wrap("mount root file system", err)
	}
	st.base = base // with the descriptor the mounts would become nobody's
	err = unix.MoveMount(st.root, "", base, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
	if err == unix.EINVAL {
		return &failure{code: codeOther, text: "a container without a mount namespace of its own needs Linux 6.15 or newer"}
	}
	if err != nil {
		return wrap("mount root file system", err)
	}
	return nil
}

// sealRoot copies the finished tree, so that the root is its top: only there may flags
// still be set, and ".." leads nowhere.
func (st *stage) sealRoot() error {
	top, err := unix.OpenTree(st.root, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH|unix.AT_RECURSIVE)
	if err != nil {
		return wrap("copy the container's mounts", err)
	}
	unix.Close(st.root)
	unix.Close(st.base)
	st.root = top // open until the exec: see base
	return nil
}

// changeRoot is what pivot does where the mount namespace is not the container's own.
// Above the root there is nothing of the host's that ".." could lead to.
func (st *stage) changeRoot() error {
	if err := unix.Fchdir(st.root); err != nil {
		return wrap("change to root file system", err)
	}
	if err := unix.Chroot("."); err != nil {
		return wrap("change root", err)
	}
	return unix.Chdir("/")
}
