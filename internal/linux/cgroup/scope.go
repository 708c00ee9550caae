package cgroup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	sd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
	"github.com/opencontainers/cgroups/systemd"
	"golang.org/x/sys/unix"
)

// With the systemd driver a container has a scope: systemd makes it, around a process,
// and it ends when no process is left in it. That process is the container's shim,
// which moves into a group of its own below the scope; the container gets another one,
// whose limits are set by us, as the scope is delegated. So the shim's memory is not
// the container's, and the counters of a container that has ended can still be read.
const (
	scopeOfShim      = "shim"
	scopeOfContainer = "container"
)

// ScopePath names a group in a scope PREFIX-NAME.scope of a slice: the form
// slice:prefix:name of runc's cgroupsPath.
func ScopePath(slice, prefix, name string) string { return slice + ":" + prefix + ":" + name }

// Systemd tells whether systemd runs here and can be asked for scopes.
func Systemd() bool {
	st, err := os.Lstat("/run/systemd/system")
	return err == nil && st.IsDir()
}

// scopeOf tells a path of the form slice:prefix:name apart: the scope and its path
// below each hierarchy's root.
func scopeOf(path string) (slice, scope, below string, err error) {
	parts := strings.Split(path, ":")
	if len(parts) != 3 || parts[1] == "" || parts[2] == "" || strings.Contains(parts[1]+parts[2], "/") {
		return "", "", "", fmt.Errorf("cgroup path %q is not slice:prefix:name", path)
	}
	dir, err := systemd.ExpandSlice(parts[0])
	if err != nil {
		return "", "", "", fmt.Errorf("cgroup parent: %w", err)
	}
	scope = parts[1] + "-" + parts[2] + ".scope"
	return parts[0], scope, filepath.Join(dir, scope), nil
}

// Enclose makes the scope of the group around a container's shim. A group that is in
// no scope needs none.
func (g *Group) Enclose(ctx context.Context, shim int) error {
	if g.scope == "" {
		return nil
	}
	if err := g.startScope(ctx, shim); err != nil {
		return fmt.Errorf("make scope %s: %w", g.scope, err)
	}
	// On cgroup v2 a group that has groups with limits below it may have no process.
	for _, d := range g.dirs {
		if !isUnifiedHierarchy(d) {
			continue
		}
		dir := filepath.Join(filepath.Dir(d), scopeOfShim)
		err := unix.Mkdir(dir, 0o755)
		if errors.Is(err, unix.ENOENT) {
			continue // a hybrid host whose systemd does not use the unified hierarchy
		}
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("create cgroup %s: %w", dir, err)
		}
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(shim)), 0); err != nil {
			return fmt.Errorf("enter cgroup: %w", err)
		}
	}
	return nil
}

func (g *Group) startScope(ctx context.Context, pid int) error {
	if !Systemd() {
		return errors.New("systemd does not run here: use the cgroupfs driver")
	}
	// The private socket: no message bus is needed.
	conn, err := sd.NewSystemdConnectionContext(ctx)
	if err != nil {
		return fmt.Errorf("connect to systemd: %w", err)
	}
	defer conn.Close()
	property := func(name string, value any) sd.Property {
		return sd.Property{Name: name, Value: dbus.MakeVariant(value)}
	}
	properties := []sd.Property{
		sd.PropDescription("Muelle container " + strings.TrimSuffix(g.scope, ".scope")), sd.PropSlice(g.slice),
		property("PIDs", []uint32{uint32(pid)}), property("Delegate", true), property("DefaultDependencies", false),
		property("CollectMode", "inactive-or-failed"), property("TasksMax", ^uint64(0)),
	}
	// Else systemd, on cgroup v1, would move the shim in its own hierarchy only.
	for _, what := range []string{"CPU", "Memory", "Tasks"} {
		properties = append(properties, property(what+"Accounting", true))
	}
	done := make(chan string, 1)
	if _, err := conn.StartTransientUnitContext(ctx, g.scope, "fail", properties, done); err != nil {
		return err
	}
	select {
	case result := <-done:
		if result != "done" {
			return fmt.Errorf("systemd's job ended with %q", result)
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// isUnifiedHierarchy tells whether a directory lies in the unified hierarchy.
func isUnifiedHierarchy(dir string) bool { return Version() == 2 || isUnified(dir) }

// leaveScope removes what is left of the scope where systemd does not: it knows only
// some of v1's hierarchies. What is in use stays.
func (g *Group) leaveScope() error {
	if g.scope == "" {
		return nil
	}
	var errs []error
	for _, d := range g.dirs {
		if Version() == 2 {
			continue
		}
		err := unix.Rmdir(filepath.Dir(d))
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.ENOTEMPTY) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
