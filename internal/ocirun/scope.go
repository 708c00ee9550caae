package ocirun

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"muelle/internal/linux/cgroup"
	"muelle/internal/linux/spawn"
)

// scopePath is the cgroup of a container with --systemd-cgroup: in a scope, by the form
// slice:prefix:name of cgroupsPath. Where the slice is left out it is system.slice.
func scopePath(path, id string) (string, error) {
	if !cgroup.Systemd() {
		return "", errors.New("--systemd-cgroup: systemd does not run here: leave the flag out (podman --cgroup-manager=cgroupfs)")
	}
	if path == "" {
		return cgroup.ScopePath("system.slice", "muelle-oci", id), nil
	}
	slice, rest, _ := strings.Cut(path, ":")
	prefix, name, ok := strings.Cut(rest, ":")
	switch {
	case !ok || prefix == "" || name == "" || strings.Contains(name, ":"):
		return "", fmt.Errorf("expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got %q instead", path)
	case slice == "":
		slice = "system.slice"
	}
	return cgroup.ScopePath(slice, prefix, name), nil
}

// propertyPrefix begins the annotations that are properties of the scope, as runc's.
const propertyPrefix = "org.systemd.property."

// enclose makes the scope of a group that is in one. It is made around a process that does
// nothing: that of the container is to be born into its limits, and only then can the
// other one leave.
func enclose(g *cgroup.Group, annotations map[string]string) (leave func() error, err error) {
	if !g.Scoped() {
		return func() error { return nil }, nil
	}
	more := map[string]string{}
	for name, value := range annotations {
		if p, ok := strings.CutPrefix(name, propertyPrefix); ok {
			more[p] = value
		}
	}
	p, err := spawn.Waiting()
	if err != nil {
		return nil, err
	}
	runtime.LockOSThread() // with which the child would die
	defer func() {
		if err != nil {
			runtime.UnlockOSThread()
		}
	}()
	p.Do("die with the runtime", unix.SYS_PRCTL, spawn.Int(unix.PR_SET_PDEATHSIG), spawn.Int(int(unix.SIGKILL)))
	p.Pause("wait in the scope")
	p.End()
	child, err := spawn.Begin(p, spawn.Options{Cgroup: -1})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := g.EncloseWith(ctx, child.Pid, more); err != nil {
		child.Kill()
		return nil, err
	}
	return func() error {
		child.Kill()
		runtime.UnlockOSThread()
		return g.Vacate()
	}, nil
}
