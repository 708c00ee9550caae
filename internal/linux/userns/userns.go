// Package userns makes user namespaces and knows which ids of the host stand behind
// those that a container sees: maps, their source in /etc/subuid and /etc/subgid
// (for a daemon-wide userns-remap), and a pool from which each container gets a
// range of its own.
package userns

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Range maps Size ids from Container on, as seen inside, to those from Host on.
type Range struct {
	Container, Host, Size uint32
}

// Map is how ids inside a user namespace stand for ids of the host. A nil Map
// changes nothing: the container has the host's ids.
type Map struct {
	UIDs, GIDs []Range
}

// every is all ids but the one that stands for none.
var every = Range{Size: 1<<32 - 1}

// Same gives the map of a user namespace in which every id is the host's. Nothing
// is shown otherwise there, but capabilities hold only over what belongs to it.
func Same() *Map { return &Map{UIDs: []Range{every}, GIDs: []Range{every}} }

// IsSame tells whether every id is the host's.
func (m *Map) IsSame() bool {
	return m != nil && slices.Equal(m.UIDs, []Range{every}) && slices.Equal(m.GIDs, []Range{every})
}

// maxRanges is what the kernel takes (user_namespaces(7)).
const maxRanges = 340

// Validate says what the kernel would refuse, and that the container's root must be
// mapped: what is made for a container is made in root's name.
func (m *Map) Validate() error {
	for _, side := range []struct {
		name   string
		ranges []Range
	}{{"user", m.UIDs}, {"group", m.GIDs}} {
		if len(side.ranges) > maxRanges {
			return fmt.Errorf("%d ranges of %s ids are more than %d", len(side.ranges), side.name, maxRanges)
		}
		if _, ok := toHost(side.ranges, 0); !ok {
			return fmt.Errorf("%s id 0 is not mapped", side.name)
		}
		for i, r := range side.ranges {
			if r.Size == 0 || uint64(r.Container)+uint64(r.Size) > 1<<32-1 || uint64(r.Host)+uint64(r.Size) > 1<<32-1 {
				return fmt.Errorf("range %d:%d:%d of %s ids is empty or too large", r.Container, r.Host, r.Size, side.name)
			}
			for _, o := range side.ranges[:i] {
				if overlap(r.Container, r.Size, o.Container, o.Size) || overlap(r.Host, r.Size, o.Host, o.Size) {
					return fmt.Errorf("ranges %d:%d:%d and %d:%d:%d of %s ids overlap", o.Container, o.Host, o.Size, r.Container, r.Host, r.Size, side.name)
				}
			}
		}
	}
	return nil
}

func overlap(a, n, b, m uint32) bool {
	return uint64(a) < uint64(b)+uint64(m) && uint64(b) < uint64(a)+uint64(n)
}

func toHost(ranges []Range, id uint32) (uint32, bool) {
	for _, r := range ranges {
		if id >= r.Container && id-r.Container < r.Size {
			return r.Host + (id - r.Container), true
		}
	}
	return 0, false
}

func toContainer(ranges []Range, id uint32) (uint32, bool) {
	for _, r := range ranges {
		if id >= r.Host && id-r.Host < r.Size {
			return r.Container + (id - r.Host), true
		}
	}
	return 0, false
}

// HostUID gives the host's number for a user as seen inside; false where the
// namespace has no such user.
func (m *Map) HostUID(id uint32) (uint32, bool) {
	if m == nil {
		return id, true
	}
	return toHost(m.UIDs, id)
}

// HostGID is HostUID for groups.
func (m *Map) HostGID(id uint32) (uint32, bool) {
	if m == nil {
		return id, true
	}
	return toHost(m.GIDs, id)
}

// ContainerUID gives the number as seen inside for a user of the host. What is
// looked at through a running container's mounts has ids of the host; on disk,
// below its layer and volumes, it has those seen inside.
func (m *Map) ContainerUID(id uint32) (uint32, bool) {
	if m == nil {
		return id, true
	}
	return toContainer(m.UIDs, id)
}

// ContainerGID is ContainerUID for groups.
func (m *Map) ContainerGID(id uint32) (uint32, bool) {
	if m == nil {
		return id, true
	}
	return toContainer(m.GIDs, id)
}

// Supported is nil where the kernel can show an overlay's layers with other ids
// than those on disk.
func Supported() error {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return fmt.Errorf("ask for the kernel's version: %w", err)
	}
	return supported(unix.ByteSliceToString(u.Release[:]))
}

func supported(release string) error {
	var major, minor int
	if _, err := fmt.Sscanf(release, "%d.%d", &major, &minor); err != nil {
		return fmt.Errorf("read the kernel's version %q: %w", release, err)
	}
	if major > 5 || major == 5 && minor >= 19 {
		return nil
	}
	return fmt.Errorf("user namespaces need Linux 5.19 or newer (idmapped mounts below overlay), this is %s", release)
}

// New makes a user namespace with a map. It lives as long as the descriptor and
// what is in it. The caller closes it.
func New(m *Map) (*os.File, error) {
	if err := m.Validate(); err != nil {
		return nil, fmt.Errorf("make user namespace: %w", err)
	}
	f, err := hold(m)
	switch {
	case errors.Is(err, unix.ENOSPC):
		err = errors.New("this host allows no further one (sysctl user.max_user_namespaces)")
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS):
		err = fmt.Errorf("does the kernel have CONFIG_USER_NS? %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("make user namespace: %w", err)
	}
	return f, nil
}

// hold starts a process in the new namespace, which stops before its first
// instruction, takes a descriptor and ends it.
func hold(m *Map) (*os.File, error) {
	// The thread that traces is the one that started it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	attr := &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWUSER, Ptrace: true, Pdeathsig: syscall.SIGKILL,
		UidMappings: sysMap(m.UIDs), GidMappings: sysMap(m.GIDs), GidMappingsEnableSetgroups: true,
	}
	pid, err := syscall.ForkExec("/proc/self/exe", []string{"muelle-userns"}, &syscall.ProcAttr{Dir: "/", Sys: attr})
	if err != nil {
		return nil, err
	}
	defer func() {
		unix.Kill(pid, unix.SIGKILL)
		for {
			var ws unix.WaitStatus
			if _, err := unix.Wait4(pid, &ws, 0, nil); err != unix.EINTR && (err != nil || !ws.Stopped()) {
				return
			}
		}
	}()
	return os.Open(fmt.Sprintf("/proc/%d/ns/user", pid))
}

func sysMap(ranges []Range) (out []syscall.SysProcIDMap) {
	for _, r := range ranges {
		out = append(out, syscall.SysProcIDMap{ContainerID: int(r.Container), HostID: int(r.Host), Size: int(r.Size)})
	}
	return out
}

// TranslateOptions gives a file system's mount options with the ids in uid= and
// gid= as the host counts them, which is how the kernel reads them from us.
func (m *Map) TranslateOptions(options []string) ([]string, error) {
	if m == nil {
		return options, nil
	}
	out := make([]string, 0, len(options))
	for _, o := range options {
		key, value, _ := strings.Cut(o, "=")
		host := m.HostUID
		switch key {
		case "uid":
		case "gid":
			host = m.HostGID
		default:
			out = append(out, o)
			continue
		}
		var id uint32
		if _, err := fmt.Sscanf(value+"\n", "%d\n", &id); err != nil {
			return nil, fmt.Errorf("mount option %q: not an id", o)
		}
		n, ok := host(id)
		if !ok {
			return nil, fmt.Errorf("mount option %q: the container's user namespace has no such id", o)
		}
		out = append(out, fmt.Sprintf("%s=%d", key, n))
	}
	return out, nil
}
