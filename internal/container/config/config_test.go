package config_test

import (
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ctypes "github.com/moby/moby/api/types/container"

	"muelle/internal/container/config"
)

func TestOfNoProject(t *testing.T) {
	got := config.OfNoProject(map[string]string{
		"com.docker.compose.project": "shop", "com.docker.compose.service": "web", "com.docker.compose.oneoff": "True", "com.docker.compose.depends_on": "db:service_healthy:false",
		"io.muelle.compose.x-health": "1", "io.muelle.debug": "1", "io.muelle.health.tcp": "80", "com.docker.composer": "x", "l": "image",
	})
	if d := cmp.Diff(map[string]string{"io.muelle.health.tcp": "80", "com.docker.composer": "x", "l": "image"}, got); d != "" {
		t.Error(d)
	}
}

func TestMergeImage(t *testing.T) {
	image := func() *dockerspec.DockerOCIImageConfig {
		c := &dockerspec.DockerOCIImageConfig{}
		c.Entrypoint, c.Cmd = []string{"/entry"}, []string{"arg"}
		c.Env = []string{"PATH=/bin", "A=1"}
		c.Labels = map[string]string{"l": "image", "m": "image"}
		c.ExposedPorts = map[string]struct{}{"80/tcp": {}}
		c.User, c.WorkingDir, c.StopSignal = "app", "/w", "SIGQUIT"
		c.Healthcheck = &dockerspec.HealthcheckConfig{Test: []string{"CMD", "true"}, Interval: time.Second, Retries: 7}
		return c
	}
	tests := []struct {
		name            string
		in              ctypes.Config
		entrypoint, cmd []string
	}{
		{"all of the image", ctypes.Config{}, []string{"/entry"}, []string{"arg"}},
		{"own command", ctypes.Config{Cmd: []string{"x"}}, []string{"/entry"}, []string{"x"}},
		{"own entrypoint", ctypes.Config{Entrypoint: []string{"/own"}}, []string{"/own"}, nil},
		{"no entrypoint", ctypes.Config{Entrypoint: []string{""}, Cmd: []string{"x"}}, nil, []string{"x"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := tt.in
			config.MergeImage(&c, image())
			if d := cmp.Diff([][]string{tt.entrypoint, tt.cmd}, [][]string{c.Entrypoint, c.Cmd}); d != "" {
				t.Error(d)
			}
		})
	}
	c := ctypes.Config{Env: []string{"A=2", "B=3"}, Labels: map[string]string{"m": "own"}, Healthcheck: &ctypes.HealthConfig{Interval: time.Minute}}
	config.MergeImage(&c, image())
	if d := cmp.Diff([]string{"A=2", "B=3", "PATH=/bin"}, c.Env); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(map[string]string{"l": "image", "m": "own"}, c.Labels); d != "" {
		t.Error(d)
	}
	want := &ctypes.HealthConfig{Test: []string{"CMD", "true"}, Interval: time.Minute, Retries: 7}
	if d := cmp.Diff(want, c.Healthcheck); d != "" {
		t.Error(d)
	}
	if c.User != "app" || c.WorkingDir != "/w" || c.StopSignal != "SIGQUIT" || len(c.ExposedPorts) != 1 {
		t.Errorf("got %+v", c)
	}
}

func TestParseSignal(t *testing.T) {
	for in, want := range map[string]syscall.Signal{"9": 9, "KILL": 9, "sigterm": 15, "SIGUSR1": 10, "RTMIN+3": 37, "SIGRTMAX-1": 63, "CLD": 17, "SIGIOT": 6, "poll": 29} {
		if got, err := config.ParseSignal(in); err != nil || got != want {
			t.Errorf("%s: got %v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "0", "65", "-1", "NOPE", "RTMIN+99"} {
		if _, err := config.ParseSignal(in); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: got %v", in, err)
		}
	}
}
