package ocirun

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"muelle/internal/linux/cgroup"
)

// creation are the flags that create and run share.
type creation struct {
	bundle, console, pidFile string
	noPivot, noKeyring       bool
	preserve                 int
}

func (c *creation) flags(f *flag.FlagSet) {
	for _, n := range []string{"bundle", "b"} {
		f.StringVar(&c.bundle, n, ".", "")
	}
	f.StringVar(&c.console, "console-socket", "", "")
	f.StringVar(&c.pidFile, "pid-file", "", "")
	f.BoolVar(&c.noPivot, "no-pivot", false, "")
	f.BoolVar(&c.noKeyring, "no-new-keyring", false, "")
	f.IntVar(&c.preserve, "preserve-fds", 0, "")
}

func (a *App) create(args []string) error {
	f := flags()
	c := &creation{}
	c.flags(f)
	if err := parse(f, args, 1, 1); err != nil {
		return err
	}
	r, err := a.make(f.Arg(0), c, [3]int{0, 1, 2})
	if err != nil {
		return err
	}
	r.close()
	return nil
}

// make creates a container whose program waits for start; its record stays locked.
// After an error nothing is left.
func (a *App) make(id string, c *creation, stdio [3]int) (_ *record, err error) {
	dir, err := a.dirOf(id)
	if err != nil {
		return nil, err
	}
	bundle, spec, err := loadBundle(c.bundle)
	if err != nil {
		return nil, err
	}
	if spec.Process.Terminal != (c.console != "") {
		if c.console != "" {
			return nil, errors.New("cannot use console socket if the process has no terminal")
		}
		return nil, errors.New("cannot allocate tty if muelle-oci will detach without setting console socket")
	}
	binary := sealStage()
	defer binary.close()
	path, err := a.cgroupsPath(spec, id)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(a.root, 0o711); err != nil {
		return nil, err
	}
	if err := os.Mkdir(dir, 0o711); errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("container with id exists: %s", id)
	} else if err != nil {
		return nil, err
	}
	r := &record{ID: id, Bundle: bundle, Rootfs: spec.Root.Path, BootID: bootID(), Created: time.Now().UTC(), Cgroup: path, Config: spec, dir: dir}
	if r.lock, err = lockDir(dir); err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	if err := a.build(r, c, stdio, binary); err != nil {
		if r.Pid > 0 {
			// The hooks of the container's end belong to a creation that failed, too.
			err = errors.Join(append([]error{err}, r.stopped()...)...)
		}
		r.close()
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return r, nil
}

// build makes the cgroup and the stage, and writes the record.
func (a *App) build(r *record, c *creation, stdio [3]int, binary *sealing) (err error) {
	g, err := cgroup.Open(r.Cgroup)
	if err != nil {
		return err
	}
	if g.Exists() {
		if pids, err := g.Pids(); err == nil && len(pids) > 0 {
			return fmt.Errorf("container's cgroup %s is not empty: %d processes are in it", r.Cgroup, len(pids))
		}
	}
	leave, err := enclose(g, r.Config.Annotations)
	if err != nil {
		return err
	}
	// The stage has threads, and a limit may allow one process alone: it comes last.
	var most *specs.LinuxPids
	if res := r.Config.Linux.Resources; res != nil {
		first := *res
		most, first.Pids = res.Pids, nil
		err = g.Create(&first)
	} else {
		err = g.Create(nil)
	}
	if err != nil {
		return errors.Join(err, leave())
	}
	s := &stage{a: a, r: r, c: c, group: g, stdio: stdio, binary: binary}
	err = errors.Join(s.make(), leave())
	if err == nil && most != nil {
		err = g.Update(&specs.LinuxResources{Pids: most})
	}
	if err == nil {
		err = r.write()
	}
	if err == nil {
		err = writePid(c.pidFile, r.Pid)
	}
	if err != nil {
		return errors.Join(err, s.undo(), g.Kill(10*time.Second), g.Remove())
	}
	return nil
}

// cgroupsPath is where the container's cgroup lies below each hierarchy.
func (a *App) cgroupsPath(s *specs.Spec, id string) (string, error) {
	path := s.Linux.CgroupsPath
	if a.systemd {
		return scopePath(path, id)
	}
	if strings.Count(path, ":") == 2 && !strings.Contains(path, "/") {
		return "", fmt.Errorf("cgroupsPath %q is systemd's form: it needs --systemd-cgroup", path)
	}
	if path == "" {
		path = id
	}
	path = filepath.Clean("/" + path)
	if path == "/" {
		return "", errors.New("the root cgroup cannot be a container's")
	}
	return path, nil
}

// named opens the container that is the only argument.
func (a *App) named(args []string) (*record, error) {
	f := flags()
	if err := parse(f, args, 1, 1); err != nil {
		return nil, err
	}
	return a.open(f.Arg(0))
}

func (a *App) start(args []string) error {
	r, err := a.named(args)
	if err != nil {
		return err
	}
	defer r.close()
	return r.begin()
}

// begin lets a created container's program start and waits until it has.
func (r *record) begin() error {
	status, err := r.status()
	if err != nil {
		return err
	}
	switch status {
	case specs.StateCreated:
	case specs.StateStopped:
		return errors.New("cannot start a container that has stopped")
	default:
		return fmt.Errorf("cannot start a container in the %s state", status)
	}
	err = awaitExec(r.dir)
	os.Remove(filepath.Join(r.dir, startSocket))
	if err == nil {
		err = r.runHooks("poststart", specs.StateRunning)
	}
	if err == nil {
		return nil
	}
	// A container that could not start stops, and stays for delete.
	unix.Kill(r.Pid, unix.SIGKILL)
	return err
}

func (a *App) state(args []string) error {
	r, err := a.named(args)
	if err != nil {
		return err
	}
	defer r.close()
	status, err := r.status()
	if err != nil {
		return err
	}
	// Beside the spec's fields those that runc has.
	out := struct {
		specs.State
		Pid     int       `json:"pid"`
		Rootfs  string    `json:"rootfs"`
		Created time.Time `json:"created"`
		Owner   string    `json:"owner"`
	}{State: *r.state(status), Rootfs: r.Rootfs, Created: r.Created}
	out.Pid = out.State.Pid
	b, err := json.MarshalIndent(out, "", "  ")
	if err != nil {
		return err
	}
	fmt.Fprintln(a.Stdout, string(b))
	return nil
}
