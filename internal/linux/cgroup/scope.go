package cgroup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
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
	return g.EncloseWith(ctx, shim, nil)
}

// Scoped tells whether the group is in a scope of systemd's.
func (g *Group) Scoped() bool { return g.scope != "" }

// EncloseWith is Enclose with further properties of the scope, by systemd's names; the
// values are in the text form of D-Bus variants.
func (g *Group) EncloseWith(ctx context.Context, shim int, more map[string]string) error {
	if g.scope == "" {
		return nil
	}
	if err := g.startScope(ctx, shim, more); err != nil {
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

// Vacate removes the group of the process that the scope was made around, when that has
// ended before the container. What stays goes with the scope.
func (g *Group) Vacate() error {
	if g.scope == "" {
		return nil
	}
	var errs []error
	for _, d := range g.dirs {
		err := unix.Rmdir(filepath.Join(filepath.Dir(d), scopeOfShim))
		if err != nil && err != unix.ENOENT && err != unix.EBUSY {
			errs = append(errs, fmt.Errorf("leave scope %s: %w", g.scope, err))
		}
	}
	return errors.Join(errs...)
}

func (g *Group) startScope(ctx context.Context, pid int, more map[string]string) error {
	if !Systemd() {
		return errors.New("systemd does not run here: use the cgroupfs driver")
	}
	further, err := parseProperties(more)
	if err != nil {
		return err
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
	properties = append(properties, further...)
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

// parseProperties reads properties of a scope. Of those of its own it has one each.
func parseProperties(texts map[string]string) (list []sd.Property, err error) {
	for name, text := range texts {
		if len(name) < 3 || strings.ContainsFunc(name, func(r rune) bool { return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') }) {
			return nil, fmt.Errorf("%q is no name of a property of systemd", name)
		}
		if slices.Contains([]string{"Description", "Slice", "PIDs", "Delegate"}, name) {
			return nil, fmt.Errorf("the property %s of the scope is not to be chosen", name)
		}
		value, err := dbus.ParseVariant(text, dbus.Signature{})
		if err != nil {
			return nil, fmt.Errorf("property %s of systemd: %w", name, err)
		}
		// Unit files have FooSec, D-Bus has FooUSec.
		if base, ok := strings.CutSuffix(name, "Sec"); ok && !strings.HasSuffix(base, "U") {
			name = base + "USec"
			if value, err = micro(value); err != nil {
				return nil, fmt.Errorf("property %s of systemd: %w", base+"Sec", err)
			}
		}
		list = append(list, sd.Property{Name: name, Value: value})
	}
	return list, nil
}

// micro makes microseconds of seconds.
func micro(v dbus.Variant) (dbus.Variant, error) {
	const million = 1000000
	switch n := v.Value().(type) {
	case int32:
		return dbus.MakeVariant(uint64(n) * million), nil
	case uint32:
		return dbus.MakeVariant(uint64(n) * million), nil
	case int64:
		return dbus.MakeVariant(uint64(n) * million), nil
	case uint64:
		return dbus.MakeVariant(n * million), nil
	case float64:
		return dbus.MakeVariant(uint64(n * million)), nil
	}
	return v, fmt.Errorf("%s is no number of seconds", v)
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
