package volume

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"muelle/internal/linux/mountattr"
)

// at mounts on dir, which nobody but the daemon can replace.
func (m *mounting) at(ctx context.Context, dir string) (err error) {
	if m.bind {
		err = m.bindAt(dir)
	} else {
		err = m.newAt(ctx, dir)
	}
	if err == nil && m.propagation != 0 {
		if err = unix.Mount("", dir, "", m.propagation, ""); err != nil {
			err = errors.Join(err, unix.Unmount(dir, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW))
		}
	}
	if err != nil {
		return fmt.Errorf("failed to mount local volume: mount %s:%s, type: %s, data: %s: %w%s",
			m.device, dir, m.kind, strings.Join(m.data, ","), err, m.remedy(err))
	}
	return nil
}

func (m *mounting) bindAt(dir string) error {
	flags := uintptr(unix.MS_BIND)
	if m.recursive {
		flags |= unix.MS_REC
	}
	if err := unix.Mount(m.device, dir, "", flags, ""); err != nil {
		return err
	}
	if m.flags|m.clear == 0 {
		return nil
	}
	// What the source's mount forbids, a remount that does not repeat it would allow.
	var st unix.Statfs_t
	err := unix.Statfs(dir, &st)
	if err == nil {
		const kept = unix.ST_NOSUID | unix.ST_NODEV | unix.ST_NOEXEC | unix.ST_RDONLY
		have := uintptr(st.Flags) & kept
		err = unix.Mount("", dir, "", have&^m.clear|m.flags|unix.MS_REMOUNT|unix.MS_BIND, "")
	}
	if err != nil {
		return errors.Join(err, unix.Unmount(dir, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW))
	}
	return nil
}

func (m *mounting) newAt(ctx context.Context, dir string) error {
	data, err := m.resolved(ctx)
	if err != nil {
		return err
	}
	fs, err := m.context(data)
	if err != nil {
		return err
	}
	defer unix.Close(fs)
	if m.remote() {
		err = m.createRemote(ctx, fs)
	} else {
		err = unix.FsconfigCreate(fs)
	}
	if errors.Is(err, errSilent) {
		return err // the file system's own words wait for the mount, too
	}
	if err != nil {
		return told(fs, err)
	}
	tree, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, attributes(m.flags))
	if err != nil {
		return told(fs, err)
	}
	defer unix.Close(tree)
	return unix.MoveMount(tree, "", unix.AT_FDCWD, dir, unix.MOVE_MOUNT_F_EMPTY_PATH)
}

func attributes(flags uintptr) (attr int) {
	for _, f := range [][2]uintptr{
		{unix.MS_RDONLY, unix.MOUNT_ATTR_RDONLY}, {unix.MS_NOSUID, unix.MOUNT_ATTR_NOSUID},
		{unix.MS_NODEV, unix.MOUNT_ATTR_NODEV}, {unix.MS_NOEXEC, unix.MOUNT_ATTR_NOEXEC},
		{unix.MS_NOATIME, unix.MOUNT_ATTR_NOATIME}, {unix.MS_STRICTATIME, unix.MOUNT_ATTR_STRICTATIME},
		{unix.MS_NODIRATIME, unix.MOUNT_ATTR_NODIRATIME},
	} {
		if flags&f[0] != 0 {
			attr |= int(f[1])
		}
	}
	if flags&unix.MS_NOSYMFOLLOW != 0 && mountattr.Supported() {
		attr |= unix.MOUNT_ATTR_NOSYMFOLLOW
	}
	return attr
}

// remedy says what to do about a mount that failed.
func (m *mounting) remedy(err error) string {
	server := m.server()
	for _, o := range m.data {
		if host, ok := strings.CutPrefix(o, "addr="); ok && server == "" {
			server = host
		}
	}
	switch {
	case errors.Is(err, unix.ENODEV):
		return fmt.Sprintf(": this kernel does not know the file system %s: load its module (modprobe %s)", m.kind, m.kind)
	case m.bind && errors.Is(err, unix.ENOENT):
		return fmt.Sprintf(": make the folder first (mkdir -p %s)", m.device)
	case errors.Is(err, unix.ENOENT) && !strings.HasPrefix(m.kind, "nfs"):
		return fmt.Sprintf(": there is no device %s", m.device)
	case errors.Is(err, unix.ENOTBLK):
		return fmt.Sprintf(": %s is no block device; a folder takes type=none o=bind", m.device)
	case errors.Is(err, errSilent), errors.Is(err, unix.ECONNREFUSED), errors.Is(err, unix.ETIMEDOUT), errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.ENETUNREACH):
		return fmt.Sprintf(": server %s does not answer: is it up, and is its file service reachable from this host?", server)
	case strings.HasPrefix(m.kind, "nfs") && (errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM)):
		return ": the server refuses: does it export the path to this host? (showmount -e; nfsvers=4 in o= chooses the version)"
	case strings.HasPrefix(m.kind, "nfs") && errors.Is(err, unix.EPROTONOSUPPORT):
		return ": the server does not speak this version: choose another with o=addr=…,nfsvers=4"
	case errors.Is(err, unix.EINVAL):
		return fmt.Sprintf(": check that %s holds a file system of type %s and that its options are spelled as in its manual", m.device, m.kind)
	}
	return ""
}
