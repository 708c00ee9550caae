package native

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"muelle/internal/linux/cgroup"
	"muelle/internal/runtime"
	"muelle/internal/shimapi"
)

// patience is how long a shim may take to say hello: it does nothing else.
const patience = 5 * time.Second

// Load implements runtime.Runtime.
func (r *Runtime) Load(ctx context.Context, id, dir string) (runtime.Task, error) {
	st, err := readState(dir)
	if err != nil || st.BootID != r.bootID || st.ID != id {
		return nil, errdefs.ErrNotFound.WithMessage("no running container " + id)
	}
	g, err := cgroup.Open(st.CgroupsPath)
	if err != nil {
		return nil, err
	}
	t := &task{r: r, id: id, dir: dir, group: g, state: *st, ended: make(chan struct{}), execs: map[string]*process{}}
	conn, err := dialIn(dir)
	if err != nil {
		return t.loadEnded(err)
	}
	t.serve(conn)
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	select {
	case h := <-t.client.hello:
		if h.Version < shimapi.MinVersion || h.Version > shimapi.Version {
			conn.Close()
			return nil, fmt.Errorf("the shim of container %s speaks version %d of the protocol, this daemon %d to %d", id, h.Version, shimapi.MinVersion, shimapi.Version)
		}
		t.setState(&h.State)
		if h.Exit.Ended {
			t.exited(&h.Exit)
		}
		return t, nil
	case <-t.client.done:
		// It ended between our connecting and its hello.
		<-t.ended
		return t, nil
	case <-ctx.Done():
		conn.Close()
		return nil, fmt.Errorf("the shim of container %s does not answer: %w", id, ctx.Err())
	}
}

// loadEnded is a container without a shim: it has ended and its shim with it, or
// the shim was killed.
func (t *task) loadEnded(cause error) (runtime.Task, error) {
	if !errors.Is(cause, unix.ECONNREFUSED) && !errors.Is(cause, os.ErrNotExist) {
		return nil, fmt.Errorf("connect to the shim of container %s: %w", t.id, cause)
	}
	t.lost()
	return t, nil
}

// dialIn connects to the socket in a folder, whose path may be longer than a
// socket's address.
func dialIn(dir string) (*net.UnixConn, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	path := "/proc/self/fd/" + strconv.Itoa(int(d.Fd())) + "/" + shimapi.SocketFile
	return net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
}

func readState(dir string) (*shimapi.State, error) {
	b, err := os.ReadFile(filepath.Join(dir, shimapi.StateFile))
	if err != nil {
		return nil, err
	}
	st := &shimapi.State{}
	return st, shimapi.Decode(b, st)
}

func readExit(dir string) (*shimapi.Exited, error) {
	b, err := os.ReadFile(filepath.Join(dir, shimapi.ExitFile))
	if err != nil {
		return nil, err
	}
	m := &shimapi.Exited{}
	return m, shimapi.Decode(b, m)
}

// startTime is field 22 of /proc/PID/stat, or 0.
func startTime(pid int) uint64 {
	v, err := strconv.ParseUint(statField(pid, 22), 10, 64)
	if err != nil {
		return 0
	}
	return v
}

// parentOf gives the parent of a process; 0: there is no such process.
func parentOf(pid int) int {
	n, err := strconv.Atoi(statField(pid, 4))
	if err != nil {
		return 0
	}
	return n
}

// statField gives a field of /proc/PID/stat, counted as in proc(5), from 3 on.
func statField(pid, n int) string {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return ""
	}
	// The second field is the program's name, which may have any character.
	fields := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:])
	if len(fields) <= n-3 {
		return ""
	}
	return string(fields[n-3])
}
