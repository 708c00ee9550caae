// Package cgroup makes, limits, reads and removes control groups on cgroup v1, v2
// and hybrid hosts. Limits, statistics and removal are the work of
// opencontainers/cgroups; making and entering a group is done here, because
// writing a process id to cgroup.procs waits 6 to 14 ms for an RCU grace period,
// which a child that writes 0 to `tasks` (v1) or is cloned into the group (v2)
// does not.
package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Version is the version that containers get on this host: 2 where the unified
// hierarchy is mounted on /sys/fs/cgroup, else 1 (hybrid hosts included).
func Version() int {
	if cgroups.IsCgroup2UnifiedMode() {
		return 2
	}
	return 1
}

// Mode names the host's layout.
type Mode string

// The layouts a host may have.
const (
	Unified Mode = "unified"
	Legacy  Mode = "legacy"
	Hybrid  Mode = "hybrid"
)

// HostMode tells the layout of this host.
func HostMode() Mode {
	switch {
	case cgroups.IsCgroup2UnifiedMode():
		return Unified
	case cgroups.IsCgroup2HybridMode():
		return Hybrid
	}
	return Legacy
}

// Hierarchy is one mounted cgroup file system.
type Hierarchy struct {
	// Name is the key of opencontainers/cgroups: a controller, "name=systemd", or
	// "" for the unified hierarchy. A hierarchy with several controllers appears
	// once for each, with the same Mountpoint.
	Name       string
	Mountpoint string
}

var hierarchies = sync.OnceValues(findHierarchies)

// Hierarchies lists what is mounted on this host, read once.
func Hierarchies() ([]Hierarchy, error) { return hierarchies() }

func findHierarchies() ([]Hierarchy, error) {
	if Version() == 2 {
		return []Hierarchy{{Name: "", Mountpoint: Root}}, nil
	}
	mounts, err := cgroups.GetCgroupMounts(true)
	if err != nil {
		return nil, fmt.Errorf("read cgroup mounts: %w", err)
	}
	var all []Hierarchy
	for _, m := range mounts {
		for _, s := range m.Subsystems {
			all = append(all, Hierarchy{Name: s, Mountpoint: m.Mountpoint})
		}
	}
	if HostMode() == Hybrid {
		all = append(all, Hierarchy{Name: "", Mountpoint: filepath.Join(Root, "unified")})
	}
	if len(all) == 0 {
		return nil, errors.New("no cgroup hierarchy is mounted on /sys/fs/cgroup")
	}
	return all, nil
}

// Root is where hierarchies are mounted.
const Root = "/sys/fs/cgroup"

// Group is one control group in every hierarchy of the host.
type Group struct {
	path    string
	slice   string   // of the scope
	scope   string   // that the group is in, or ""
	dirs    []string // distinct directories
	manager cgroups.Manager
	made    bool // by Make
}

// Open names a group without making it; path is below each hierarchy's root, or of
// the form slice:prefix:name for one in a scope of systemd's.
func Open(path string) (*Group, error) {
	g := &Group{}
	if strings.Contains(path, ":") {
		slice, scope, below, err := scopeOf(path)
		if err != nil {
			return nil, err
		}
		g.path, g.slice, g.scope = path, slice, scope
		path = filepath.Join(below, scopeOfContainer)
	} else {
		path = filepath.Clean("/" + path)
		g.path = path
	}
	if path == "/" {
		return nil, errors.New("the root cgroup cannot be a container's")
	}
	all, err := Hierarchies()
	if err != nil {
		return nil, err
	}
	paths := map[string]string{}
	seen := map[string]bool{}
	for _, h := range all {
		dir := filepath.Join(h.Mountpoint, path)
		paths[h.Name] = dir
		if !seen[dir] {
			seen[dir] = true
			g.dirs = append(g.dirs, dir)
		}
	}
	if g.manager, err = newManager(path, paths); err != nil {
		return nil, err
	}
	return g, nil
}

// Children lists the names of the groups below one, of any hierarchy, each once.
func Children(path string) ([]string, error) {
	g, err := Open(path)
	if err != nil {
		return nil, err
	}
	names := map[string]bool{}
	for _, dir := range g.dirs {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("list cgroups: %w", err)
		}
		for _, e := range entries {
			if e.IsDir() {
				names[e.Name()] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(names)), nil
}

// Path is what Open was given, in its shortest form.
func (g *Group) Path() string { return g.path }

// Dir is the group's directory in one hierarchy, by controller, or "".
func (g *Group) Dir(controller string) string { return g.manager.Path(controller) }

// Create makes the group's directories and sets its limits. On error nothing of
// the group is left.
func (g *Group) Create(r *specs.LinuxResources) error {
	res, err := resources(r)
	if err != nil {
		return err
	}
	if !g.made {
		if err := g.mkdir(); err != nil {
			return errors.Join(err, g.Remove())
		}
	}
	if err := g.set(res); err != nil {
		return errors.Join(fmt.Errorf("set cgroup limits: %w", explained(err, res)), g.Remove())
	}
	return nil
}

// Make makes the group's directories, for a Create to come, where they do not lie in a
// scope of systemd's, which Enclose makes. On error nothing of the group is left.
func (g *Group) Make() error {
	if g.scope != "" {
		return nil
	}
	if err := g.mkdir(); err != nil {
		return errors.Join(err, g.Remove())
	}
	g.made = true
	return nil
}

// set writes limits.
func (g *Group) set(res *cgroups.Resources) error {
	lifted := liftThrottles(res)
	if err := g.manager.Set(res); err != nil {
		return err
	}
	for _, l := range lifted {
		if err := os.WriteFile(filepath.Join(g.dirs[0], "io.max"), []byte(l), 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Update changes limits of a group that exists.
func (g *Group) Update(r *specs.LinuxResources) error {
	res, err := resources(r)
	if err != nil {
		return err
	}
	res.SkipDevices = len(res.Devices) == 0
	if err := g.set(res); err != nil {
		return fmt.Errorf("set cgroup limits: %w", explained(err, res))
	}
	return nil
}

// Exists tells whether any directory of the group is there.
func (g *Group) Exists() bool {
	for _, d := range g.dirs {
		if _, err := os.Stat(d); err == nil {
			return true
		}
	}
	return false
}

// Entry is what a child needs to enter the group.
type Entry struct {
	// Tasks are files to which the child writes "0": v1's, and v2's where the kernel
	// forgets processors.
	Tasks []*os.File
	// Into is a directory of the unified hierarchy for CLONE_INTO_CGROUP, or nil.
	Into *os.File
}

// Close closes the files.
func (e *Entry) Close() {
	for _, f := range e.Tasks {
		f.Close()
	}
	if e.Into != nil {
		e.Into.Close()
	}
}

// Entry opens what a child needs to enter the group.
func (g *Group) Entry() (*Entry, error) {
	e := &Entry{}
	for _, d := range g.dirs {
		var err error
		var f *os.File
		switch {
		case g.forgotten(d):
			if f, err = openPlain(filepath.Join(d, "cgroup.procs"), unix.O_WRONLY); err == nil {
				e.Tasks = append(e.Tasks, f)
			}
		case Version() == 2 || isUnified(d):
			e.Into, err = openPlain(d, unix.O_DIRECTORY)
		default:
			if f, err = openPlain(filepath.Join(d, "tasks"), unix.O_WRONLY); err == nil {
				e.Tasks = append(e.Tasks, f)
			}
		}
		if err != nil {
			e.Close()
			return nil, fmt.Errorf("open cgroup: %w", err)
		}
	}
	return e, nil
}

// openPlain is os.OpenFile without Go's poller, which costs a dozen files of each
// container six system calls instead of two.
func openPlain(name string, flags int) (*os.File, error) {
	fd, err := unix.Open(name, flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}
