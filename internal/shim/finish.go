package shim

import (
	"bytes"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"muelle/internal/shimapi"
)

// finish is the container's end.
func (s *shim) finish() {
	if s.log != nil {
		s.log.close()
	}
	s.exit = s.main.exit
	s.exit.Logged = s.logged
	s.exit.OOMKilled = oomKilled(s.start.OOMFile)
	if err := s.writeFile(shimapi.ExitFile, shimapi.Encode(&s.exit)); err != nil {
		s.complain("write exit status", err)
	}
	s.farewell()
	for _, h := range s.held {
		s.drop(h)
	}
	s.held = nil
	closeAll(s.tasks)
	s.tasks = nil
	s.broadcast(&s.exit)
	if len(s.waiting) > 0 {
		s.quit()
		return
	}
	s.maybeQuit()
}

// holdMounts keeps the calling thread's mount namespace. Otherwise the container's last
// process would unmount everything before its end is seen, for which the kernel takes a
// millisecond and more: held here, it is done after the answer.
func (s *shim) holdMounts() (err error) {
	if s.mounts, err = unix.Openat(s.proc, "thread-self/ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		return wrap("open mount namespace", err)
	}
	return nil
}

func (s *shim) releaseMounts() {
	closeOpen(s.mounts)
	s.mounts = -1
}

// writeFile replaces a file of the container's folder. Exec-root lives in memory,
// so there is nothing to sync.
func (s *shim) writeFile(name string, data []byte) error {
	tmp := name + ".tmp"
	fd, err := unix.Openat(s.dir, tmp, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	n, err := unix.Write(fd, data)
	unix.Close(fd)
	if err != nil {
		return err
	}
	if n < len(data) {
		return unix.ENOSPC
	}
	return unix.Renameat(s.dir, tmp, s.dir, name)
}

// oomKilled reads the line "oom_kill N" of a memory cgroup's counters.
func oomKilled(path string) bool {
	data, err := readFile(path)
	if err != nil {
		return false
	}
	for line := range bytes.SplitSeq(data, []byte("\n")) {
		if v, ok := bytes.CutPrefix(line, []byte("oom_kill ")); ok {
			n, err := strconv.Atoi(string(bytes.TrimSpace(v)))
			return err == nil && n > 0
		}
	}
	return false
}

// killAll ends every process of the container's cgroup, for containers whose
// processes do not end with the first one.
func (s *shim) killAll() {
	if s.start.KillFile != "" {
		fd, err := unix.Open(s.start.KillFile, unix.O_WRONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			_, err = unix.Write(fd, []byte("1"))
			unix.Close(fd)
		}
		if err == nil {
			return
		}
	}
	data, err := readFile(s.start.ProcsFile)
	if err != nil {
		return
	}
	for line := range bytes.SplitSeq(data, []byte("\n")) {
		if pid, err := strconv.Atoi(string(line)); err == nil && pid > 1 {
			unix.Kill(pid, unix.SIGKILL)
		}
	}
}

func readFile(path string) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	return readAll(fd)
}

func readAll(fd int) ([]byte, error) {
	data := make([]byte, 0, 1024)
	for {
		if len(data) == cap(data) {
			data = append(data, 0)[:len(data)]
		}
		n, err := unix.Read(fd, data[len(data):cap(data)])
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return data, err
		}
		data = data[:len(data)+n]
	}
}

// startTime is field 22 of /proc/PID/stat, which with the pid names a process for
// as long as the machine runs.
func (s *shim) startTime(pid string) uint64 {
	fd, err := unix.Openat(s.proc, pid+"/stat", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0
	}
	defer unix.Close(fd)
	buf := s.loop.oob[:512] // which has been taken: a line of some fifty numbers and a short name
	n, err := unix.Read(fd, buf)
	if err != nil {
		return 0
	}
	// The command may contain anything: fields count from its closing bracket.
	field, rest := "", string(buf[bytes.LastIndexByte(buf[:n], ')')+1:n])
	for range 20 {
		var ok bool
		if field, rest, ok = strings.Cut(strings.TrimLeft(rest, " "), " "); !ok {
			return 0
		}
	}
	v, err := strconv.ParseUint(field, 10, 64)
	if err != nil {
		return 0
	}
	return v
}
