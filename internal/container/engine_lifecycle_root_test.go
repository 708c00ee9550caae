//go:build root

package container_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	ctypes "github.com/moby/moby/api/types/container"

	"muelle/internal/container"
	"muelle/internal/logdriver"
)

func (e *engine) logs(id string, o container.LogOptions) string {
	e.Helper()
	o.Tail, o.Stdout, o.Stderr = -1, true, true
	seq, _, err := e.Logs(context.Background(), id, o)
	if err != nil {
		e.Fatal(err)
	}
	var b strings.Builder
	for entry, err := range seq {
		if err != nil {
			e.Fatal(err)
		}
		b.Write(entry.Line)
	}
	return b.String()
}

func TestEngineRun(t *testing.T) {
	e := newEngine(t)
	id := e.make("echo out; echo err >&2; exit 7", nil)
	out, errOut, code := e.run(id, nil)
	if string(out) != "out\n" || string(errOut) != "err\n" || code != 7 {
		t.Errorf("got %q, %q, %d", out, errOut, code)
	}
	if got := e.logs(id, container.LogOptions{}); got != "out\nerr\n" && got != "err\nout\n" {
		t.Errorf("log %q", got)
	}
	// The writable layer stays over runs.
	id = e.make("test -f /once && exit 5; echo x >/once", nil)
	if _, _, code := e.run(id, nil); code != 0 {
		t.Errorf("first run: %d", code)
	}
	if _, _, code := e.run(id, nil); code != 5 {
		t.Errorf("second run: %d", code)
	}
	user := e.make("id -u; id -g; echo $HOME", nil, func(c *ctypes.Config) { c.User = "app" })
	if out, _, _ := e.run(user, nil); string(out) != "1000\n1000\n/home/app\n" {
		t.Errorf("user: %q", out)
	}
	for cmd, want := range map[string]int{"/nope": 127, "/etc/group": 126} {
		r, err := e.Create(t.Context(), container.CreateOptions{Config: &ctypes.Config{Image: "box", Cmd: []string{cmd}}})
		if err != nil {
			t.Fatal(err)
		}
		// The file has mode 0755: it is what is in it that cannot be executed.
		if err := e.Start(t.Context(), r.ID); err == nil {
			t.Errorf("%s started", cmd)
		}
		if st := e.state(r.ID); st.ExitCode != want || st.Status != "created" {
			t.Errorf("%s: %+v", cmd, st)
		}
	}
}

func TestEngineAttachByteForByte(t *testing.T) {
	e := newEngine(t)
	data := make([]byte, 16<<20)
	rand.Read(data)
	id := e.make("exec cat", &ctypes.HostConfig{AutoRemove: true, LogConfig: ctypes.LogConfig{Type: "none"}}, func(c *ctypes.Config) {
		c.OpenStdin, c.StdinOnce = true, true
	})
	out, _, code := e.run(id, bytes.NewReader(data))
	if !bytes.Equal(out, data) || code != 0 {
		t.Errorf("%d of %d bytes came back, code %d", len(out), len(data), code)
	}
}

func TestEngineVolumes(t *testing.T) {
	e := newEngine(t)
	id := e.make("cat /data/sub/file; echo more >>/data/sub/file; test -L /data/link", &ctypes.HostConfig{Binds: []string{"vol:/data"}})
	if out, errOut, code := e.run(id, nil); string(out) != "content\n" || code != 0 {
		t.Errorf("got %q, %q, %d", out, errOut, code)
	}
	again := e.make("cat /data/sub/file", &ctypes.HostConfig{Binds: []string{"vol:/data:ro"}})
	if out, _, _ := e.run(again, nil); string(out) != "content\nmore\n" {
		t.Errorf("got %q", out)
	}
	dir := t.TempDir()
	bound := e.make("echo x >/b/file; echo y >/ro/file; echo code $?", &ctypes.HostConfig{Binds: []string{dir + "/new:/b", dir + ":/ro:ro"}, Tmpfs: map[string]string{"/t": ""}})
	if out, _, _ := e.run(bound, nil); string(out) != "code 1\n" {
		t.Errorf("got %q", out)
	}
	if data, err := os.ReadFile(filepath.Join(dir, "new/file")); err != nil || string(data) != "x\n" {
		t.Errorf("got %q, %v", data, err)
	}
	if err := e.vols.Remove(t.Context(), "vol", false); !errdefs.IsConflict(err) {
		t.Errorf("removal of a volume in use: %v", err)
	}
}

func TestEngineStopKillPause(t *testing.T) {
	e := newEngine(t)
	trap := e.make("trap 'exit 9' TERM; echo >/trapped; while :; do sleep 0.02; done", nil)
	e.start(trap)
	// Process 1 hears no signal that it has no trap for.
	if out, code := e.exec(trap, "sh", "-c", "until test -e /trapped; do sleep 0.01; done"); code != 0 {
		t.Fatalf("got %q, %d", out, code)
	}
	if err := e.Pause(t.Context(), trap); err != nil {
		t.Fatal(err)
	}
	if st := e.state(trap); !st.Paused {
		t.Errorf("state %+v", st)
	}
	if err := e.Unpause(t.Context(), trap); err != nil {
		t.Fatal(err)
	}
	if err := e.Stop(t.Context(), trap, container.StopOptions{}); err != nil {
		t.Fatal(err)
	}
	if st := e.state(trap); st.ExitCode != 9 {
		t.Errorf("state %+v", st)
	}
	deaf := e.make("sleep 1000", nil)
	e.start(deaf)
	if err := e.Pause(t.Context(), deaf); err != nil {
		t.Fatal(err)
	}
	if err := e.Remove(t.Context(), deaf, container.RemoveOptions{Force: true}); err != nil {
		t.Errorf("removal of a paused one: %v", err)
	}
}

func TestEngineExec(t *testing.T) {
	e := newEngine(t)
	id := e.make("sleep 1000", nil)
	e.start(id)
	if out, code := e.exec(id, "sh", "-c", "echo hello; exit 4"); out != "hello\n" || code != 4 {
		t.Errorf("got %q, %d", out, code)
	}
	if out, code := e.exec(id, "nope"); code != -1 || !strings.Contains(out, `exec: "nope": executable file not found in $PATH`) {
		t.Errorf("got %q, %d", out, code)
	}
	top, err := e.Top(t.Context(), id, "-o pid,args")
	if err != nil || len(top.Processes) != 1 || !strings.HasSuffix(top.Processes[0][1], "sleep 1000") {
		t.Errorf("top: %+v, %v", top, err)
	}
}

func TestEngineHealthAndRestart(t *testing.T) {
	e := newEngine(t)
	id := e.make("sleep 1000", nil, func(c *ctypes.Config) {
		c.Healthcheck = &ctypes.HealthConfig{Test: []string{"CMD-SHELL", "echo looked; test -f /well"}, Interval: 20 * time.Millisecond, Retries: 2}
	})
	e.start(id)
	e.await(id, "unhealthy", func(s *ctypes.State) bool { return s.Health.Status == ctypes.Unhealthy })
	if log := e.state(id).Health.Log; log[len(log)-1].Output != "looked\n" || log[len(log)-1].ExitCode != 1 {
		t.Errorf("log %+v", log[len(log)-1])
	}
	e.exec(id, "sh", "-c", "echo >/well")
	e.await(id, "healthy", func(s *ctypes.State) bool { return s.Health.Status == ctypes.Healthy })

	crash := e.make("exit 1", &ctypes.HostConfig{RestartPolicy: ctypes.RestartPolicy{Name: "on-failure", MaximumRetryCount: 2}})
	e.start(crash)
	e.await(crash, "the last retry", func(s *ctypes.State) bool { return s.Status == "exited" })
	if r, err := e.Inspect(t.Context(), crash, false); err != nil || r.RestartCount != 2 || r.State.ExitCode != 1 {
		t.Errorf("got %+v, %v", r.State, err)
	}
}

// TestEngineReopen is the daemon's end and start again under running containers.
func TestEngineReopen(t *testing.T) {
	e := newEngine(t)
	runs := e.make("i=0; while :; do echo line $i; i=$((i+1)); sleep 0.01; done", nil)
	ends := e.make("while ! test -f /data/end; do sleep 0.01; done; exit 6", &ctypes.HostConfig{Binds: []string{"ends:/data"}})
	auto := e.make("while ! test -f /data/end; do sleep 0.01; done; exit 0", &ctypes.HostConfig{Binds: []string{"ends:/data"}, AutoRemove: true})
	kept := e.make("sleep 1000", &ctypes.HostConfig{AutoRemove: true}, func(c *ctypes.Config) {
		c.Healthcheck = &ctypes.HealthConfig{Test: []string{"CMD", "true"}, Interval: 20 * time.Millisecond}
	})
	always := e.make("sleep 1000", &ctypes.HostConfig{RestartPolicy: ctypes.RestartPolicy{Name: "always"}})
	for _, id := range []string{runs, ends, auto, kept, always} {
		e.start(id)
	}
	before, err := e.Inspect(t.Context(), runs, false)
	if err != nil {
		t.Fatal(err)
	}
	killed := e.state(always).Pid
	e.close()
	if err := os.WriteFile(filepath.Join(e.dir, "volumes/ends/_data/end"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	kill(t, killed)
	e.awaitShimsKnow(ends, auto, always)
	e.open()
	after, err := e.Inspect(t.Context(), runs, false)
	if err != nil || after.State.Pid != before.State.Pid || after.State.StartedAt != before.State.StartedAt {
		t.Errorf("before %+v, after %+v, %v", before.State, after.State, err)
	}
	had, has := before.NetworkSettings.Networks["bridge"], after.NetworkSettings.Networks["bridge"]
	if !had.IPAddress.IsValid() || had.IPAddress != has.IPAddress || had.MacAddress.String() != has.MacAddress.String() {
		t.Errorf("endpoint %+v became %+v", had, has)
	}
	if st := e.state(ends); st.Status != "exited" || st.ExitCode != 6 {
		t.Errorf("ends: %+v", st)
	}
	if _, err := e.ID(auto); !errdefs.IsNotFound(err) {
		t.Errorf("auto: %v", err)
	}
	e.await(always, "a new run", func(s *ctypes.State) bool { return s.Running && s.Pid != killed && s.Pid != 0 })
	e.await(kept, "healthy", func(s *ctypes.State) bool { return s.Health.Status == ctypes.Healthy })
	if out, code := e.exec(runs, "echo", "still here"); out != "still here\n" || code != 0 {
		t.Errorf("exec: %q, %d", out, code)
	}
	if err := e.Stop(t.Context(), runs, container.StopOptions{Timeout: new(int)}); err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(strings.TrimSpace(e.logs(runs, container.LogOptions{})), "\n") {
		if line != "line "+itoa(i) {
			t.Fatalf("log line %d is %q", i, line)
		}
	}
}

func TestEngineManyAtOnce(t *testing.T) {
	e := newEngine(t)
	var wg sync.WaitGroup
	work := make(chan int)
	for range 8 {
		wg.Go(func() {
			for i := range work {
				id := e.make("exit "+itoa(i), &ctypes.HostConfig{AutoRemove: true})
				wait, err := e.Wait(t.Context(), id, ctypes.WaitConditionRemoved)
				if err == nil {
					err = e.Start(t.Context(), id)
				}
				if err != nil {
					t.Error(err)
					continue
				}
				if r, err := wait(t.Context()); err != nil || int(r.StatusCode) != i {
					t.Errorf("container %d: %+v, %v", i, r, err)
				}
			}
		})
	}
	for i := range 50 {
		work <- i
	}
	close(work)
	wg.Wait()
}

func TestEngineFollowLogs(t *testing.T) {
	e := newEngine(t)
	id := e.make("for i in 1 2 3; do echo $i; sleep 0.05; done", nil)
	e.start(id)
	if got := e.logs(id, container.LogOptions{Follow: true, ReadOptions: logdriver.ReadOptions{}}); got != "1\n2\n3\n" {
		t.Errorf("got %q", got)
	}
}

func TestEngineSharedNetwork(t *testing.T) {
	e := newEngine(t)
	first := e.make("sleep 1000", nil, func(c *ctypes.Config) { c.Hostname = "first" })
	e.start(first)
	second := e.make("cat /etc/hostname; cat /sys/class/net/eth0/address", &ctypes.HostConfig{NetworkMode: ctypes.NetworkMode("container:" + first), PidMode: ctypes.PidMode("container:" + first)})
	out, errOut, code := e.run(second, nil)
	mac, _ := e.exec(first, "cat", "/sys/class/net/eth0/address")
	if string(out) != "first\n"+mac || code != 0 {
		t.Errorf("got %q, %q, %d, want %q", out, errOut, code, mac)
	}
}

func itoa(n int) string { return strconv.Itoa(n) }

func kill(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

// awaitShimsKnow waits, without a daemon, until the processes of containers ended.
func (e *engine) awaitShimsKnow(ids ...string) {
	e.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for _, id := range ids {
		for e.cgroupBusy(id) {
			if time.Now().After(deadline) {
				e.Fatalf("container %s goes on", id)
			}
			time.Sleep(5 * time.Millisecond) // polling: the kernel tells nobody
		}
	}
}

func (e *engine) cgroupBusy(id string) bool {
	data, err := os.ReadFile(filepath.Join("/sys/fs/cgroup/pids", e.parent, id, "cgroup.procs"))
	return err == nil && len(data) > 0
}

// TestEngineReboot has the folder of the boot cleared, with processes that go on all
// the same: they are ended before policies apply.
func TestEngineReboot(t *testing.T) {
	e := newEngine(t)
	always := e.make("sleep 1000", &ctypes.HostConfig{RestartPolicy: ctypes.RestartPolicy{Name: "always"}, Binds: []string{"/data"}})
	once := e.make("sleep 1000", nil)
	auto := e.make("sleep 1000", &ctypes.HostConfig{AutoRemove: true})
	stopped := e.make("sleep 1000", &ctypes.HostConfig{RestartPolicy: ctypes.RestartPolicy{Name: "unless-stopped"}})
	for _, id := range []string{always, once, auto, stopped} {
		e.start(id)
	}
	if err := e.Stop(t.Context(), stopped, container.StopOptions{Timeout: new(int)}); err != nil {
		t.Fatal(err)
	}
	before := e.state(always).Pid
	e.close()
	if err := os.RemoveAll(filepath.Join(e.dir, "exec/containers")); err != nil {
		t.Fatal(err)
	}
	e.open()
	e.await(always, "a new run", func(s *ctypes.State) bool { return s.Running && s.Pid != 0 && s.Pid != before })
	if err := syscall.Kill(before, 0); err != syscall.ESRCH {
		t.Errorf("the process of the last boot: %v", err)
	}
	if st := e.state(once); st.Status != "exited" || st.ExitCode != 255 {
		t.Errorf("once: %+v", st)
	}
	if st := e.state(stopped); st.Running {
		t.Errorf("stopped: %+v", st)
	}
	if _, err := e.ID(auto); !errdefs.IsNotFound(err) {
		t.Errorf("auto: %v", err)
	}
}

func TestEngineSharedIPC(t *testing.T) {
	e := newEngine(t)
	donor := e.make("echo shared >/dev/shm/file; sleep 1000", &ctypes.HostConfig{IpcMode: "shareable", ShmSize: 1 << 20})
	e.start(donor)
	for out := ""; out != "shared\n"; out, _ = e.exec(donor, "cat", "/dev/shm/file") {
	}
	guest := e.make("cat /dev/shm/file", &ctypes.HostConfig{IpcMode: ctypes.IpcMode("container:" + donor)})
	if out, errOut, code := e.run(guest, nil); string(out) != "shared\n" || code != 0 {
		t.Errorf("got %q, %q, %d", out, errOut, code)
	}
	alone := e.make("sleep 1000", nil)
	e.start(alone)
	refused := e.make("true", &ctypes.HostConfig{IpcMode: ctypes.IpcMode("container:" + alone)})
	if err := e.Start(t.Context(), refused); !errdefs.IsConflict(err) {
		t.Errorf("got %v", err)
	}
}
