package rootfs

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// layersTree shows the layers of a mounted image, or the part of it that is asked for.
func layersTree(m Mount) (tree int, err error) {
	if len(m.Layers) == 1 { // an overlay takes two at least
		m.Source = m.Layers[0]
		return sourceTree(m)
	}
	m.Source = stage + "/image"
	if err := unix.Mkdir(m.Source, 0o700); err != nil {
		return -1, err
	}
	defer func() { err = errors.Join(err, unix.Rmdir(m.Source)) }()
	parent, dirs := relative(m.Layers)
	if err := unix.Chdir(parent); err != nil {
		return -1, err
	}
	err = unix.Mount("overlay", m.Source, "overlay", unix.MS_RDONLY, "lowerdir="+strings.Join(dirs, ":"))
	if err = errors.Join(err, unix.Chdir("/")); err != nil {
		return -1, fmt.Errorf("mount layers: %w", err)
	}
	tree, err = sourceTree(m)
	return tree, errors.Join(err, unix.Unmount(m.Source, unix.MNT_DETACH))
}

// mountBase puts the container's root at stage/root.
func (b *builder) mountBase() error {
	if len(b.o.Lower) == 0 && b.base < 0 {
		return errors.New("no layers")
	}
	parent, dirs := relative(b.o.Lower, b.o.Upper, b.o.Work)
	if err := unix.Mount("tmpfs", stage, "tmpfs", 0, "mode=700,size="+cmp.Or(b.o.Scratch, "1m")); err != nil {
		return err
	}
	for _, dir := range []string{"root", "upper", "work"} {
		if err := unix.Mkdir(stage+"/"+dir, 0o755); err != nil {
			return err
		}
	}
	if b.base >= 0 {
		if err := unix.MoveMount(b.base, "", unix.AT_FDCWD, stage+"/root", unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
			return fmt.Errorf("mount the container's root: %w", err)
		}
		return unix.Mount("", stage+"/root", "", unix.MS_PRIVATE, "")
	}
	return b.mountOverlay(parent, dirs)
}

// mountOverlay mounts the layers of a container that does not run. What is made for
// mount points in a view that is only read goes to a scratch layer in memory.
func (b *builder) mountOverlay(parent string, dirs []string) error {
	lower, upper, work := dirs[:len(b.o.Lower)], stage+"/upper", stage+"/work"
	own := dirs[len(b.o.Lower):]
	switch {
	case b.o.Writable:
		upper, work = own[0], own[1]
	case len(own) > 0:
		lower = append([]string{own[0]}, lower...)
	}
	// mount(2) takes one page of options: relative paths are short enough.
	if err := unix.Chdir(parent); err != nil {
		return err
	}
	options := "lowerdir=" + strings.Join(lower, ":") + ",upperdir=" + upper + ",workdir=" + work
	if err := unix.Mount("overlay", stage+"/root", "overlay", 0, options); err != nil {
		return fmt.Errorf("mount layers: %w", err)
	}
	return unix.Chdir("/")
}

// relative gives paths relative to the directory that they share; empty ones are left
// out.
func relative(lower []string, more ...string) (parent string, rel []string) {
	all := slices.DeleteFunc(append(slices.Clone(lower), more...), func(s string) bool { return s == "" })
	if len(all) == 0 {
		return "/", nil
	}
	parent = filepath.Dir(all[0])
	for _, d := range all {
		for parent != "/" && !strings.HasPrefix(d, parent+"/") {
			parent = filepath.Dir(parent)
		}
	}
	for _, d := range all {
		rel = append(rel, strings.TrimPrefix(strings.TrimPrefix(d, parent), "/"))
	}
	return parent, rel
}
