package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// shmPath is where the shared memory of a container is that others may join. It is
// the one mount of a container that the host sees: a mount inside one container's
// mount namespace cannot be bound in another's.
func (c *entry) shmPath() string { return filepath.Join(c.execDir, "shm") }

// mountShm makes the shared memory of a container whose IPC is shareable.
func (n *starting) mountShm(context.Context) error {
	if !n.rec.HostConfig.IpcMode.IsShareable() {
		return nil
	}
	dir := n.c.shmPath()
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("make shared memory: %w", err)
	}
	if err := n.c.unmountShm(); err != nil { // of a start that was cut off
		return err
	}
	options := fmt.Sprintf("mode=1777,size=%d", n.rec.HostConfig.ShmSize)
	if n.ids != nil {
		uid, _ := n.ids.HostUID(0)
		gid, _ := n.ids.HostGID(0)
		options += fmt.Sprintf(",uid=%d,gid=%d", uid, gid)
	}
	if l := n.rec.MountLabel; l != "" {
		options += `,context="` + l + `"`
	}
	if err := unix.Mount("shm", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, options); err != nil {
		return fmt.Errorf("mount shared memory: %w", err)
	}
	return nil
}

// unmountShm removes it again; where there is none, it does nothing.
func (c *entry) unmountShm() error {
	if err := unmountAll(c.shmPath()); err != nil {
		return fmt.Errorf("unmount shared memory: %w", err)
	}
	return nil
}

// unmountAll takes every mount off a path; where there is none, it does nothing.
func unmountAll(path string) error {
	err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	for err == nil { // one may lie on another
		err = unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	}
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EPERM) {
		return nil // EPERM: without privilege nothing was mounted
	}
	return err
}
