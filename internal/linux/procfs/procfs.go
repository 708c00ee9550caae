// Package procfs reads what the kernel tells of a process below /proc: namespaces,
// identity, capabilities, seccomp, limits and mounts. Values are given as the kernel
// words them.
package procfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/capability"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// Namespace is one of a process.
type Namespace struct {
	// Type is the file's name below /proc/PID/ns.
	Type  string
	Inode uint64
}

// Namespaces lists those of a process; pid 0 is the calling one's. Of the two
// entries for children (pid_for_children, time_for_children) none is given.
func Namespaces(pid int) ([]Namespace, error) {
	dir := filepath.Join(path(pid), "ns")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read namespaces: %w", err)
	}
	var list []Namespace
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), "_for_children") {
			continue
		}
		var st unix.Stat_t
		if err := unix.Stat(filepath.Join(dir, e.Name()), &st); err != nil {
			return nil, fmt.Errorf("read namespace %s: %w", e.Name(), err)
		}
		list = append(list, Namespace{Type: e.Name(), Inode: st.Ino})
	}
	return list, nil
}

func path(pid int) string {
	if pid == 0 {
		return "/proc/thread-self"
	}
	return "/proc/" + strconv.Itoa(pid)
}

// Status is what /proc/PID/status says of a process's identity and confinement.
type Status struct {
	Parent                                               int
	UIDs, GIDs, Groups                                   []int
	Inheritable, Permitted, Effective, Bounding, Ambient []string
	NoNewPrivileges                                      bool
	// Seccomp is disabled, strict or filter.
	Seccomp        string
	SeccompFilters int
}

// ReadStatus reads /proc/PID/status.
func ReadStatus(pid int) (*Status, error) {
	data, err := os.ReadFile(path(pid) + "/status")
	if err != nil {
		return nil, fmt.Errorf("read process status: %w", err)
	}
	s := &Status{}
	sets := map[string]*[]string{"CapInh": &s.Inheritable, "CapPrm": &s.Permitted, "CapEff": &s.Effective, "CapBnd": &s.Bounding, "CapAmb": &s.Ambient}
	lists := map[string]*[]int{"Uid": &s.UIDs, "Gid": &s.GIDs, "Groups": &s.Groups}
	numbers := map[string]*int{"PPid": &s.Parent, "Seccomp_filters": &s.SeccompFilters}
	for line := range strings.Lines(string(data)) {
		key, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		if set := sets[key]; set != nil {
			mask, err := strconv.ParseUint(value, 16, 64)
			if err != nil {
				return nil, fmt.Errorf("read process status: %s: %w", key, err)
			}
			*set = capabilities(mask)
		}
		if list := lists[key]; list != nil {
			for field := range strings.FieldsSeq(value) {
				n, err := strconv.Atoi(field)
				if err != nil {
					return nil, fmt.Errorf("read process status: %s: %w", key, err)
				}
				*list = append(*list, n)
			}
		}
		if n := numbers[key]; n != nil {
			if *n, err = strconv.Atoi(value); err != nil {
				return nil, fmt.Errorf("read process status: %s: %w", key, err)
			}
		}
		switch key {
		case "NoNewPrivs":
			s.NoNewPrivileges = value == "1"
		case "Seccomp":
			s.Seccomp = map[string]string{"0": "disabled", "1": "strict", "2": "filter"}[value]
		}
	}
	return s, nil
}

// capabilities names the bits; "all" where the kernel knows no other.
func capabilities(mask uint64) []string {
	names := []string{}
	all := true
	known, err := capability.ListSupported()
	if err != nil {
		known = capability.ListKnown()
	}
	for _, c := range known {
		if mask&(1<<uint(c)) == 0 {
			all = false
			continue
		}
		names = append(names, "CAP_"+strings.ToUpper(c.String()))
	}
	if all && len(names) > 0 {
		return []string{"all"}
	}
	slices.Sort(names)
	return names
}

// Command gives a process's arguments.
func Command(pid int) ([]string, error) {
	data, err := os.ReadFile(path(pid) + "/cmdline")
	if err != nil {
		return nil, fmt.Errorf("read command line: %w", err)
	}
	return strings.Split(strings.TrimSuffix(string(data), "\x00"), "\x00"), nil
}

// Lines reads a file of a process, as uid_map, line by line with single spaces.
func Lines(pid int, name string) ([]string, error) {
	data, err := os.ReadFile(filepath.Join(path(pid), name))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	var list []string
	for line := range strings.Lines(string(data)) {
		list = append(list, strings.Join(strings.Fields(line), " "))
	}
	return list, nil
}

// Label is what the kernel's security module calls a process, or empty where there
// is none.
func Label(pid int) (string, error) {
	data, err := os.ReadFile(path(pid) + "/attr/current")
	// EINVAL: there is no module that labels processes.
	if errors.Is(err, unix.EINVAL) || errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	return strings.Trim(string(data), "\x00\n"), err
}

// Limit is one line of /proc/PID/limits.
type Limit struct{ Name, Soft, Hard, Unit string }

// Limits gives those limits of which one is not "unlimited".
func Limits(pid int) ([]Limit, error) {
	data, err := os.ReadFile(path(pid) + "/limits")
	if err != nil {
		return nil, fmt.Errorf("read limits: %w", err)
	}
	var list []Limit
	for line := range strings.Lines(string(data)) {
		// Columns of fixed width: "Max cpu time              unlimited            unlimited            seconds".
		if strings.HasPrefix(line, "Limit ") || len(line) < 68 {
			continue
		}
		l := Limit{Name: strings.TrimSpace(line[:26]), Soft: strings.TrimSpace(line[26:47]), Hard: strings.TrimSpace(line[47:68]), Unit: strings.TrimSpace(line[68:])}
		if l.Soft != "unlimited" || l.Hard != "unlimited" {
			list = append(list, l)
		}
	}
	return list, nil
}

// Mounts gives a process's mounts, in the kernel's order.
func Mounts(pid int) ([]*mountinfo.Info, error) {
	f, err := os.Open(path(pid) + "/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("read mounts: %w", err)
	}
	defer f.Close()
	list, err := mountinfo.GetMountsFromReader(f, nil)
	if err != nil {
		return nil, fmt.Errorf("read mounts: %w", err)
	}
	return list, nil
}
