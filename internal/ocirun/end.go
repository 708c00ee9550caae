package ocirun

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"muelle/internal/runtime/native"
)

// patience is how long killed processes may take to end.
const patience = 10 * time.Second

func (a *App) kill(args []string) error {
	f := flags()
	var all bool
	f.BoolVar(&all, "all", false, "")
	f.BoolVar(&all, "a", false, "")
	if err := parse(f, args, 1, 2); err != nil {
		return err
	}
	sig := unix.SIGTERM
	if f.NArg() == 2 {
		var err error
		if sig, err = parseSignal(f.Arg(1)); err != nil {
			return err
		}
	}
	r, err := a.open(f.Arg(0))
	if err != nil {
		return err
	}
	defer r.close()
	return r.signal(sig, all)
}

func (r *record) signal(sig syscall.Signal, all bool) error {
	status, err := r.status()
	if err != nil {
		return err
	}
	g, err := r.group()
	if err != nil {
		return err
	}
	if all {
		pids, err := g.Pids()
		if err != nil {
			return err
		}
		for _, pid := range pids {
			if err := unix.Kill(pid, sig); err != nil && err != unix.ESRCH {
				return err
			}
		}
		return nil
	}
	if status == specs.StateStopped {
		return errors.New("container not running")
	}
	if err := unix.Kill(r.Pid, sig); err != nil {
		if err == unix.ESRCH {
			return errors.New("container not running")
		}
		return err
	}
	if sig == unix.SIGKILL && status == "paused" {
		return g.Thaw() // a frozen process does not die
	}
	return nil
}

// parseSignal takes a number or a name, with or without SIG.
func parseSignal(s string) (syscall.Signal, error) {
	if n, err := strconv.Atoi(s); err == nil {
		if n < 1 || n > 64 {
			return 0, fmt.Errorf("unknown signal %q", s)
		}
		return syscall.Signal(n), nil
	}
	name := strings.ToUpper(s)
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	if n := unix.SignalNum(name); n != 0 {
		return n, nil
	}
	return 0, fmt.Errorf("unknown signal %q", s)
}

func (a *App) delete(args []string) error {
	f := flags()
	var force bool
	f.BoolVar(&force, "force", false, "")
	f.BoolVar(&force, "f", false, "")
	if err := parse(f, args, 1, 1); err != nil {
		return err
	}
	id := f.Arg(0)
	r, err := a.open(id)
	if errors.Is(err, fs.ErrNotExist) {
		if dir, e := a.dirOf(id); e == nil {
			// What a creation left that was killed on its way.
			if e := os.RemoveAll(dir); e != nil {
				return e
			}
		}
		if force {
			return nil
		}
	}
	if err != nil {
		return err
	}
	defer r.close()
	status, err := r.status()
	if err != nil {
		return err
	}
	if !force && status != specs.StateStopped && status != specs.StateCreated {
		return fmt.Errorf("cannot delete container %s that is not stopped: %s", id, status)
	}
	if err := r.destroy(); err != nil {
		return err
	}
	for _, w := range r.stopped() {
		a.say("warning", w.Error())
	}
	return nil
}

// destroy ends what is left of a container and removes its cgroup and its folder.
func (r *record) destroy() error {
	g, err := r.group()
	if err != nil {
		return err
	}
	if r.alive() {
		unix.Kill(r.Pid, unix.SIGKILL)
	}
	if g.Exists() {
		if err := g.Kill(patience); err != nil {
			return err
		}
	}
	deadline := time.Now().Add(patience)
	for r.alive() {
		if time.Now().After(deadline) {
			return fmt.Errorf("process %d of container %s does not end", r.Pid, r.ID)
		}
		time.Sleep(time.Millisecond)
	}
	if err := g.Remove(); err != nil {
		return err
	}
	// The folder goes as a whole: no other command finds half of it.
	gone := filepath.Join(filepath.Dir(r.dir), "."+r.ID+".gone")
	if err := os.Rename(r.dir, gone); err != nil {
		return err
	}
	return os.RemoveAll(gone)
}

// stopped runs the hooks of the container's end, all of them whatever fails.
func (r *record) stopped() []error {
	return native.RunStopped(r.hooks("poststop"), r.state(specs.StateStopped), r.Bundle)
}

func (a *App) pause(args []string) error  { return a.freeze(args, true) }
func (a *App) resume(args []string) error { return a.freeze(args, false) }

func (a *App) freeze(args []string, frozen bool) error {
	r, err := a.named(args)
	if err != nil {
		return err
	}
	defer r.close()
	status, err := r.status()
	if err != nil {
		return err
	}
	g, err := r.group()
	if err != nil {
		return err
	}
	switch {
	case frozen && (status == specs.StateRunning || status == specs.StateCreated):
		return g.Freeze()
	case frozen:
		return fmt.Errorf("container not running: %s", status)
	case status != "paused":
		return errors.New("container not paused")
	}
	return g.Thaw()
}
