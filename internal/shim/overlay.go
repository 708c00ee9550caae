package shim

import (
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"muelle/internal/shimapi"
)

// mountAt mounts on a path of the host's tree: the parts of the root file system.
func mountAt(m *shimapi.Mount, dir string) error {
	if m.Bind || m.Type != "overlay" {
		var tree int
		var err error
		if m.Bind {
			tree, _, err = openTree(m)
		} else {
			tree, err = newTree(m)
		}
		if err != nil {
			return wrap(m.Source, err)
		}
		defer unix.Close(tree)
		if err := unix.MoveMount(tree, "", unix.AT_FDCWD, dir, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
			return wrap(m.Source, err)
		}
		if err := setAttached(tree, m); err != nil {
			return wrap(m.Source, err)
		}
		return nil
	}
	return mountOverlay(m, dir)
}

// mountOverlay takes mount(2), because fsconfig(2) cuts values at 256 bytes. What
// does not fit a page is shortened by naming the lower directories relative to the
// directory that they share.
func mountOverlay(m *shimapi.Mount, dir string) error {
	data := strings.Join(m.Options, ",")
	const page = 4096
	if len(data) < page {
		return unix.Mount(m.Source, dir, m.Type, uintptr(m.Flags), data)
	}
	var lower []string
	var others []string
	for _, o := range m.Options {
		if v, ok := strings.CutPrefix(o, "lowerdir="); ok {
			lower = strings.Split(v, ":")
		} else {
			others = append(others, o)
		}
	}
	common := commonDir(lower)
	for n := range lower {
		lower[n] = strings.TrimPrefix(lower[n], common+"/")
	}
	data = strings.Join(append(others, "lowerdir="+strings.Join(lower, ":")), ",")
	if len(data) >= page {
		return manyLayers(m, dir, common, lower, others)
	}
	// The thread's own working directory: it shares no CLONE_FS with others.
	if err := unix.Chdir(common + "/"); err != nil {
		return err
	}
	defer unix.Chdir("/")
	return unix.Mount(m.Source, dir, m.Type, uintptr(m.Flags), data)
}

// manyLayers adds lower directories one by one, which Linux 6.5 and later can.
func manyLayers(m *shimapi.Mount, dir, common string, lower, others []string) error {
	options := append([]string(nil), others...)
	for _, l := range lower {
		if !strings.HasPrefix(l, "/") {
			l = common + "/" + l
		}
		options = append(options, "lowerdir+="+l)
	}
	tree, err := newTree(&shimapi.Mount{Type: m.Type, Source: m.Source, Flags: m.Flags, Options: options})
	if err != nil {
		return err
	}
	defer unix.Close(tree)
	return unix.MoveMount(tree, "", unix.AT_FDCWD, dir, unix.MOVE_MOUNT_F_EMPTY_PATH)
}

// commonDir is the longest directory above all paths.
func commonDir(paths []string) string {
	if len(paths) == 0 {
		return ""
	}
	common := path.Dir(paths[0])
	for _, p := range paths[1:] {
		for common != "/" && !strings.HasPrefix(p, common+"/") {
			common = path.Dir(common)
		}
	}
	return strings.TrimSuffix(common, "/")
}
