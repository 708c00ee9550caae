package oci

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// devices gives the nodes to make, beyond those every container has (/dev/null,
// zero, full, random, urandom, tty), and the rules of the devices cgroup.
func devices(o Options) ([]specs.LinuxDevice, []specs.LinuxDeviceCgroup, error) {
	h := o.HostConfig
	if h.Privileged {
		nodes, err := hostDevices()
		return nodes, []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}, err
	}
	rules := defaultRules()
	var nodes []specs.LinuxDevice
	for _, m := range h.Devices {
		if strings.Trim(m.CgroupPermissions, "rwm") != "" {
			return nil, nil, invalid("invalid permissions of device %s: %q", m.PathOnHost, m.CgroupPermissions)
		}
		if m.PathInContainer == "" {
			m.PathInContainer = m.PathOnHost
		}
		found, err := mapped(m)
		if err != nil {
			return nil, nil, err
		}
		for _, d := range found {
			nodes = append(nodes, d)
			access := m.CgroupPermissions
			if access == "" {
				access = "rwm"
			}
			rules = append(rules, specs.LinuxDeviceCgroup{Allow: true, Type: d.Type, Major: &d.Major, Minor: &d.Minor, Access: access})
		}
	}
	for _, text := range h.DeviceCgroupRules {
		r, err := parseRule(text)
		if err != nil {
			return nil, nil, err
		}
		rules = append(rules, r)
	}
	return nodes, rules, nil
}

// defaultRules denies everything but making nodes and using the harmless ones.
func defaultRules() []specs.LinuxDeviceCgroup {
	rules := []specs.LinuxDeviceCgroup{
		{Allow: false, Access: "rwm"},
		{Allow: true, Type: "c", Access: "m"},
		{Allow: true, Type: "b", Access: "m"},
	}
	for _, d := range []struct{ major, minor int64 }{
		{1, 3}, {1, 5}, {1, 7}, {1, 8}, {1, 9}, // null zero full random urandom
		{5, 0}, {5, 1}, {5, 2}, // tty console ptmx
	} {
		rules = append(rules, specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: &d.major, Minor: &d.minor, Access: "rwm"})
	}
	pts := int64(136)
	return append(rules, specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: &pts, Access: "rwm"})
}

// mapped looks up --device: one node, or every node below a folder.
func mapped(m container.DeviceMapping) ([]specs.LinuxDevice, error) {
	source, err := filepath.EvalSymlinks(m.PathOnHost)
	if err != nil {
		return nil, invalid("error gathering device information while adding custom device %q: no such file or directory", m.PathOnHost)
	}
	if st, err := os.Stat(source); err != nil || !st.IsDir() {
		d, err := node(source, m.PathInContainer)
		if err != nil {
			return nil, invalid("error gathering device information while adding custom device %q: %v", m.PathOnHost, err)
		}
		return []specs.LinuxDevice{d}, nil
	}
	var found []specs.LinuxDevice
	err = filepath.WalkDir(source, func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		d, err := node(p, path.Join(m.PathInContainer, strings.TrimPrefix(p, source)))
		if err == nil {
			found = append(found, d)
		}
		return nil // what is no device is passed over
	})
	if err == nil && len(found) == 0 {
		err = fs.ErrNotExist
	}
	if err != nil {
		return nil, invalid("error gathering device information while adding custom device %q: %v", m.PathOnHost, err)
	}
	return found, nil
}

func node(source, dest string) (specs.LinuxDevice, error) {
	var st unix.Stat_t
	if err := unix.Lstat(source, &st); err != nil {
		return specs.LinuxDevice{}, err
	}
	typ, err := deviceType(st.Mode)
	if err != nil {
		return specs.LinuxDevice{}, err
	}
	mode := fs.FileMode(st.Mode & 0o7777)
	return specs.LinuxDevice{
		Path: dest, Type: typ, Major: int64(unix.Major(st.Rdev)), Minor: int64(unix.Minor(st.Rdev)),
		FileMode: &mode, UID: &st.Uid, GID: &st.Gid,
	}, nil
}

// hostDevices gives every node of the host's /dev for a privileged container, but
// for what the container has of its own.
func hostDevices() ([]specs.LinuxDevice, error) {
	var found []specs.LinuxDevice
	own := map[string]bool{
		"/dev/pts": true, "/dev/shm": true, "/dev/fd": true, "/dev/mqueue": true, "/dev/.lxc": true, "/dev/.lxd-mounts": true, "/dev/.udev": true,
		"/dev/console": true, "/dev/ptmx": true, "/dev/null": true, "/dev/zero": true, "/dev/full": true, "/dev/random": true, "/dev/urandom": true, "/dev/tty": true,
	}
	err := filepath.WalkDir("/dev", func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return nil // vanished meanwhile
		}
		if own[p] {
			if e.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		if e.Type()&fs.ModeDevice == 0 {
			return nil
		}
		if d, err := node(p, p); err == nil {
			found = append(found, d)
		}
		return nil
	})
	return found, err
}

var ruleSyntax = regexp.MustCompile(`^([acb]) ([0-9]+|\*):([0-9]+|\*) ([rwm]{1,3})$`)

func parseRule(text string) (specs.LinuxDeviceCgroup, error) {
	m := ruleSyntax.FindStringSubmatch(text)
	if m == nil {
		return specs.LinuxDeviceCgroup{}, invalid("invalid device cgroup rule format: '%s'", text)
	}
	number := func(s string) *int64 {
		if s == "*" {
			return nil
		}
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return nil
		}
		return &n
	}
	return specs.LinuxDeviceCgroup{Allow: true, Type: m[1], Major: number(m[2]), Minor: number(m[3]), Access: m[4]}, nil
}
