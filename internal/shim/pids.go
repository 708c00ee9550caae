package shim

import (
	"bytes"
	"path"
	"strconv"

	"golang.org/x/sys/unix"
)

// full tells whether the container's pids limit is reached. Cgroup v1 must be
// asked: there a process may be moved into a full group, and only the next fork in
// it fails.
func (s *shim) full() bool {
	limit, ok := s.pids("max")
	if !ok {
		return false
	}
	current, ok := s.pids("current")
	return ok && current >= limit
}

// pids reads a number of the pids controller; "max" is none.
func (s *shim) pids(name string) (int, bool) {
	fd, err := unix.Open(path.Dir(s.start.ProcsFile)+"/pids."+name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, false
	}
	defer unix.Close(fd)
	b := make([]byte, 24)
	n, err := unix.Read(fd, b)
	if err != nil || n < 1 || b[0] < '0' || b[0] > '9' {
		return 0, false
	}
	v, err := strconv.Atoi(string(bytes.TrimSpace(b[:n])))
	return v, err == nil
}

// errNoProcess is clone's answer to a limit of processes.
var errNoProcess = &failure{code: codeCannotRun, text: "start process: " + unix.EAGAIN.Error()}

// fullness names the limit that clone met. It is asked on the shim's own thread:
// one that has joined a container would look among the container's files.
func (s *shim) fullness(err error) error {
	if err == errNoProcess && s.full() {
		return s.pidsFailure()
	}
	return err
}

func (s *shim) pidsFailure() error {
	limit, _ := s.pids("max")
	return &failure{code: codeCannotRun, text: errNoProcess.text + ": the container's pids limit " + strconv.Itoa(limit) + " is reached"}
}
