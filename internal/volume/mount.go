package volume

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// mounted is a volume with options: its mount is on the host's tree at the volume's
// folder, one for all containers, so that they share even a tmpfs and that it goes on
// while the daemon is away. It is there while somebody uses it.
type mounted struct {
	mu    sync.Mutex // held while it is mounted or unmounted, which may take a server's time
	users map[string]bool
}

// Mount makes the content of a volume present for user, the id of a container that
// is about to run; of a volume without options it always is. The same user may ask
// again. Unmount ends it.
func (s *Service) Mount(ctx context.Context, name, user string) error {
	s.mu.Lock()
	r := s.volumes[name]
	if r == nil {
		s.mu.Unlock()
		return notFound(name)
	}
	if len(r.Options) == 0 {
		s.mu.Unlock()
		return nil
	}
	m := s.mounts[name]
	if m == nil {
		m = &mounted{users: map[string]bool{}}
		s.mounts[name] = m
	}
	s.mu.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	dir := filepath.Join(s.root, name, dataFolder)
	is, err := isMountPoint(dir)
	if err != nil {
		return fmt.Errorf("mount volume %s: %w", name, err)
	}
	if !is {
		how, err := parseOptions(r.Options)
		if err == nil {
			err = how.at(ctx, dir)
		}
		if err != nil {
			return fmt.Errorf("error while mounting volume '%s': %w", dir, err)
		}
	}
	m.users[user] = true
	return nil
}

// Unmount ends what Mount began; the last user's takes the mount away. A volume or
// user that is not known is no error.
func (s *Service) Unmount(name, user string) error {
	s.mu.Lock()
	m := s.mounts[name]
	s.mu.Unlock()
	if m == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.users, user)
	if len(m.users) > 0 {
		return nil
	}
	return s.unmount(name)
}

// unmount takes every mount off a volume's folder. Containers that still have a copy
// keep it.
func (s *Service) unmount(name string) error {
	if err := unmountAll(filepath.Join(s.root, name, dataFolder)); err != nil {
		return fmt.Errorf("unmount volume %s: %w", name, err)
	}
	return nil
}

func unmountAll(dir string) error {
	for {
		is, err := isMountPoint(dir)
		if err != nil || !is {
			return err
		}
		if err := unix.Unmount(dir, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			return err
		}
	}
}

// Settle unmounts what a daemon that was killed had mounted and no container that
// runs has asked for since. Called once, when all that run have.
func (s *Service) Settle() error {
	stale, err := s.Stale()
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range stale {
		errs = append(errs, s.Unmount(name, ""))
	}
	return errors.Join(errs...)
}

// Stale lists the volumes that are mounted although no container uses them.
func (s *Service) Stale() ([]string, error) {
	s.mu.Lock()
	any := false
	for _, r := range s.volumes {
		any = any || len(r.Options) > 0
	}
	s.mu.Unlock()
	if !any {
		return nil, nil // reading every mount of a host takes its time
	}
	found, err := mountinfo.GetMounts(mountinfo.PrefixFilter(s.root))
	if err != nil {
		return nil, fmt.Errorf("list mounts of volumes: %w", err)
	}
	var stale []string
	for _, f := range found {
		name, ok := strings.CutSuffix(strings.TrimPrefix(f.Mountpoint, s.root+"/"), "/"+dataFolder)
		if !ok || strings.Contains(name, "/") || !s.unused(name) {
			continue
		}
		stale = append(stale, name)
	}
	return stale, nil
}

// unused tells whether a volume is known and mounted for nobody; one that is being
// mounted or unmounted is neither.
func (s *Service) unused(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	// What is mounted on a volume without options is not the engine's: somebody has put
	// a disk there.
	if r := s.volumes[name]; r == nil || len(r.Options) == 0 {
		return false
	}
	m := s.mounts[name]
	if m == nil {
		m = &mounted{users: map[string]bool{}}
		s.mounts[name] = m
	}
	if !m.mu.TryLock() {
		return false
	}
	defer m.mu.Unlock()
	return len(m.users) == 0
}

// isMountPoint tells whether something is mounted on dir. statx(2) knows that since
// Linux 5.8.
func isMountPoint(dir string) (bool, error) {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, dir, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT|unix.AT_STATX_DONT_SYNC, 0, &st); err != nil {
		if errors.Is(err, unix.ENOENT) {
			return false, nil
		}
		return false, err
	}
	return st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, nil
}
