package container_test

import (
	"errors"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	ctypes "github.com/moby/moby/api/types/container"

	"muelle/internal/container"
	"muelle/internal/runtime"
)

func TestBackoff(t *testing.T) {
	var b container.Backoff
	short, long := time.Second, 10*time.Second
	want := []time.Duration{100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000, 60000}
	for i, w := range want {
		if got := container.BackoffNext(&b, short); got != w*time.Millisecond {
			t.Fatalf("restart %d: waits %v, want %v", i, got, w*time.Millisecond)
		}
	}
	if got := container.BackoffNext(&b, long); got != 100*time.Millisecond {
		t.Errorf("after a long run: waits %v", got)
	}
}

func TestWantsRestart(t *testing.T) {
	tests := []struct {
		policy         ctypes.RestartPolicy
		code, restarts int
		stopped, want  bool
	}{
		{policy: ctypes.RestartPolicy{}, code: 1},
		{policy: ctypes.RestartPolicy{Name: "no"}, code: 1},
		{policy: ctypes.RestartPolicy{Name: "always"}, want: true},
		{policy: ctypes.RestartPolicy{Name: "always"}, stopped: true},
		{policy: ctypes.RestartPolicy{Name: "unless-stopped"}, want: true},
		{policy: ctypes.RestartPolicy{Name: "on-failure"}},
		{policy: ctypes.RestartPolicy{Name: "on-failure"}, code: 3, restarts: 99, want: true},
		{policy: ctypes.RestartPolicy{Name: "on-failure", MaximumRetryCount: 2}, code: 3, restarts: 1, want: true},
		{policy: ctypes.RestartPolicy{Name: "on-failure", MaximumRetryCount: 2}, code: 3, restarts: 2},
	}
	for _, tt := range tests {
		if got := container.WantsRestart(tt.policy, tt.code, tt.restarts, tt.stopped); got != tt.want {
			t.Errorf("%+v: got %v", tt, got)
		}
	}
}

func TestStatusText(t *testing.T) {
	now := time.Now()
	ago := func(d time.Duration) string { return now.Add(-d).Format(time.RFC3339Nano) }
	zero := time.Time{}.Format(time.RFC3339Nano)
	tests := []struct {
		in   ctypes.State
		want string
	}{
		{ctypes.State{Status: "created", StartedAt: zero, FinishedAt: zero}, "Created"},
		{ctypes.State{Running: true, StartedAt: ago(3 * time.Second), FinishedAt: zero}, "Up 3 seconds"},
		{ctypes.State{Running: true, StartedAt: ago(3 * time.Minute), Health: &ctypes.Health{Status: "healthy"}}, "Up 3 minutes (healthy)"},
		{ctypes.State{Running: true, StartedAt: ago(3 * time.Minute), Health: &ctypes.Health{Status: "starting"}}, "Up 3 minutes (health: starting)"},
		{ctypes.State{Running: true, Paused: true, StartedAt: ago(time.Hour)}, "Up About an hour (Paused)"},
		{ctypes.State{Running: true, Restarting: true, ExitCode: 2, StartedAt: ago(time.Hour), FinishedAt: ago(5 * time.Second)}, "Restarting (2) 5 seconds ago"},
		{ctypes.State{Status: "exited", ExitCode: 137, StartedAt: ago(time.Hour), FinishedAt: ago(2 * time.Minute)}, "Exited (137) 2 minutes ago"},
	}
	for _, tt := range tests {
		if got := container.StatusText(&tt.in, now); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}

func TestProbe(t *testing.T) {
	start := time.Now()
	p := container.CheckOf(&ctypes.Config{Healthcheck: &ctypes.HealthConfig{Test: []string{"CMD-SHELL", "curl x"}, StartPeriod: time.Minute, Interval: 7 * time.Second}})
	if got := container.HealthWait(p, ctypes.Starting, start, start.Add(time.Second)); got != 5*time.Second {
		t.Errorf("in the start period: waits %v", got)
	}
	if got := container.HealthWait(p, ctypes.Healthy, start, start.Add(time.Second)); got != 7*time.Second {
		t.Errorf("healthy: waits %v", got)
	}
	h := &ctypes.Health{Status: ctypes.Starting}
	step := func(code int, after time.Duration) string {
		h = container.HealthNext(p, *h, &ctypes.HealthcheckResult{Start: start.Add(after), ExitCode: code}, start)
		return string(h.Status)
	}
	var got []string
	for _, r := range []struct {
		code  int
		after time.Duration
	}{{1, time.Second}, {1, 2 * time.Second}, {1, 3 * time.Second}, {1, 4 * time.Second}, {0, 5 * time.Second}, {1, 6 * time.Second}, {1, 7 * time.Second}, {1, 8 * time.Second}, {0, 9 * time.Second}} {
		got = append(got, step(r.code, r.after))
	}
	want := []string{"starting", "starting", "starting", "starting", "healthy", "healthy", "healthy", "unhealthy", "healthy"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if len(h.Log) != 5 {
		t.Errorf("keeps %d results", len(h.Log))
	}
	for _, test := range [][]string{nil, {"NONE"}, {"CMD"}} {
		if container.CheckOf(&ctypes.Config{Healthcheck: &ctypes.HealthConfig{Test: test}}) != nil {
			t.Errorf("%v is a check", test)
		}
	}
}

func TestStartError(t *testing.T) {
	missing := &runtime.StartError{Code: 127, Err: errors.New(`exec: "nope": executable file not found in $PATH`)}
	code, err := container.StartError(missing)
	want := `failed to create task for container: failed to create shim task: OCI runtime create failed: unable to start container process: exec: "nope": executable file not found in $PATH: unknown`
	if code != 127 || err.Error() != want || !errdefs.IsInvalidArgument(err) {
		t.Errorf("got %d, %v", code, err)
	}
	if code, err := container.StartError(errors.New("other")); code != 128 || errdefs.IsInvalidArgument(err) {
		t.Errorf("got %d, %v", code, err)
	}
}
