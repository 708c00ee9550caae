package ocirun

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"muelle/internal/atomicfile"
	"muelle/internal/linux/cgroup"
)

const (
	recordFile  = "state.json"
	startSocket = "start.sock"
)

// specVersion is the runtime-spec's that this runtime follows.
var specVersion = specs.Version

// record is what a container's folder below root keeps; the document is the one of
// its creation, whatever becomes of the bundle.
type record struct {
	ID       string      `json:"id"`
	Bundle   string      `json:"bundle"`
	Rootfs   string      `json:"rootfs"`
	Pid      int         `json:"pid"`
	PidStart uint64      `json:"pidStart"`
	BootID   string      `json:"bootID"`
	Created  time.Time   `json:"created"`
	Cgroup   string      `json:"cgroup"`
	Config   *specs.Spec `json:"config"`

	dir  string
	lock *os.File
}

var validID = regexp.MustCompile(`^[A-Za-z0-9_][\w+.-]*$`)

func (a *App) dirOf(id string) (string, error) {
	if !validID.MatchString(id) || len(id) > 1024 {
		return "", fmt.Errorf("invalid container ID format: %q", id)
	}
	return filepath.Join(a.root, id), nil
}

// open reads a container's record and locks it against other commands.
func (a *App) open(id string) (*record, error) {
	dir, err := a.dirOf(id)
	if err != nil {
		return nil, err
	}
	missing := fmt.Errorf("container %q does not exist: %w", id, fs.ErrNotExist)
	lock, err := lockDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, missing
	}
	if err != nil {
		return nil, err
	}
	r, err := readRecord(dir)
	if err != nil {
		lock.Close()
		if errors.Is(err, fs.ErrNotExist) {
			return nil, missing
		}
		return nil, err
	}
	r.lock = lock
	return r, nil
}

// lockDir takes a container's folder for one command; closing gives it back.
func lockDir(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if err != unix.EINTR {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	// It may have been deleted, and made again, while the lock was waited for.
	mine, err := f.Stat()
	if err == nil {
		var now os.FileInfo
		if now, err = os.Stat(dir); err == nil && !os.SameFile(mine, now) {
			err = fs.ErrNotExist
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func readRecord(dir string) (*record, error) {
	b, err := os.ReadFile(filepath.Join(dir, recordFile))
	if err != nil {
		return nil, err
	}
	r := &record{dir: dir}
	if err := json.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("read state of %s: %w", filepath.Base(dir), err)
	}
	return r, nil
}

func (r *record) close() { r.lock.Close() }

func (r *record) write() error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return atomicfile.WriteNoSync(filepath.Join(r.dir, recordFile), b, 0o600)
}

func (r *record) group() (*cgroup.Group, error) { return cgroup.Open(r.Cgroup) }

// status is the container's, by the spec's words and runc's "paused".
func (r *record) status() (specs.ContainerState, error) {
	if r.Pid == 0 {
		return specs.StateCreating, nil
	}
	if !r.alive() {
		return specs.StateStopped, nil
	}
	if _, err := os.Lstat(filepath.Join(r.dir, startSocket)); err == nil {
		return specs.StateCreated, nil
	}
	g, err := r.group()
	if err != nil {
		return "", err
	}
	if frozen, err := g.Frozen(); err == nil && frozen {
		return "paused", nil
	}
	return specs.StateRunning, nil
}

// alive tells whether the container's process is there and no zombie.
func (r *record) alive() bool {
	if r.BootID != bootID() {
		return false
	}
	state, start := processState(r.Pid)
	return start == r.PidStart && start != 0 && state != 'Z' && state != 'X'
}

// state is the document that hooks read and the command prints.
func (r *record) state(status specs.ContainerState) *specs.State {
	s := &specs.State{Version: specVersion, ID: r.ID, Status: status, Bundle: r.Bundle, Annotations: r.Config.Annotations}
	if status != specs.StateStopped {
		s.Pid = r.Pid
	}
	return s
}

func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return string(bytes.TrimSpace(b))
}

// processState reads the state and the start time of a process, fields 3 and 22 of
// /proc/PID/stat; zeroes where there is none.
func processState(pid int) (state byte, start uint64) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, 0
	}
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(fields) < 20 {
		return 0, 0
	}
	start, err = strconv.ParseUint(string(fields[19]), 10, 64)
	if err != nil {
		return 0, 0
	}
	return fields[0][0], start
}
