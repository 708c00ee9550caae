package runtimetest

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"muelle/internal/runtime"
)

func testErrors(t *testing.T, s *suite) {
	h := s.host(t)
	tests := []struct {
		name   string
		args   []string
		change func(*runtime.Container)
		code   int
		text   string
	}{
		{"not in PATH", []string{"nope"}, nil, 127, `exec: "nope": executable file not found in $PATH`},
		{"no such path", []string{"/nope/x"}, nil, 127, `exec: "/nope/x": stat /nope/x: no such file or directory`},
		{"empty PATH", []string{"sh"}, func(c *runtime.Container) { c.Spec.Process.Env = []string{"PATH=/nowhere"} }, 127, `exec: "sh": executable file not found in $PATH`},
		{"not executable", []string{"/etc/passwd"}, nil, 126, `exec: "/etc/passwd": permission denied`},
		{"not executable, in PATH", []string{"noexec"}, nil, 126, `exec: "noexec": permission denied`},
		{"a directory", []string{"/etc"}, nil, 126, `exec: "/etc": is a directory`},
		{"interpreter is missing", []string{"/bin/script"}, nil, 127, `exec /bin/script: no such file or directory (its interpreter is missing)`},
		{"a file as working directory", []string{"true"}, func(c *runtime.Container) { c.Spec.Process.Cwd = "/etc/passwd" }, 126, `chdir to cwd ("/etc/passwd"): not a directory`},
		{"bind source is missing", []string{"true"}, func(c *runtime.Container) {
			c.Spec.Mounts = append(c.Spec.Mounts, specs.Mount{Destination: "/x", Type: "bind", Source: "/nonexistent/source", Options: []string{"rbind"}})
		}, 128, `mount "/nonexistent/source" to "/x": no such file or directory`},
		{"directory on a file", []string{"true"}, func(c *runtime.Container) {
			c.Spec.Mounts = append(c.Spec.Mounts, specs.Mount{Destination: "/etc/passwd", Type: "bind", Source: "/etc", Options: []string{"rbind"}})
		}, 128, `mount "/etc" to "/etc/passwd": not a directory: are you trying to mount a directory onto a file (or vice-versa)?`},
		{"bad tmpfs option", []string{"true"}, func(c *runtime.Container) {
			c.Spec.Mounts = append(c.Spec.Mounts, specs.Mount{Destination: "/x", Type: "tmpfs", Source: "tmpfs", Options: []string{"size=lots"}})
		}, 128, `mount "tmpfs" to "/x": option "size=lots": invalid argument`},
		{"missing layer", []string{"true"}, func(c *runtime.Container) { c.Rootfs[0].Options[0] = "lowerdir=/nonexistent/layer" }, 128, `mount root file system: no such file or directory`},
		{"sysctl of the host", []string{"true"}, func(c *runtime.Container) {
			c.Spec.Linux.Sysctl = map[string]string{"kernel.panic": "1"}
		}, 0, "sysctl kernel.panic is not in a separate kernel namespace"},
		{"sysctl that leaves", []string{"true"}, func(c *runtime.Container) {
			c.Spec.Linux.Sysctl = map[string]string{"net/../kernel/panic": "1"}
		}, 0, "sysctl net/../kernel/panic is not in a separate kernel namespace"},
		{"sysctl of a shared namespace", []string{"true"}, func(c *runtime.Container) {
			c.Spec.Linux.Sysctl = map[string]string{"net.core.somaxconn": "1"}
			c.Spec.Linux.Namespaces = []specs.LinuxNamespace{{Type: specs.MountNamespace}, {Type: specs.PIDNamespace}}
		}, 0, "sysctl net.core.somaxconn is not allowed"},
		{"user namespace without ids", []string{"true"}, func(c *runtime.Container) {
			c.Spec.Linux.Namespaces = append(c.Spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
		}, 0, "make user namespace: user id 0 is not mapped"},
		{"no command", nil, nil, 125, "no command specified"},
		{"NUL byte", []string{"sh\x00"}, nil, 0, ""},
	}
	for _, tt := range tests {
		s.run(t, tt.name, func(t *testing.T) {
			c := h.container(tt.args...)
			if tt.change != nil {
				tt.change(c)
			}
			task, err := h.r.Start(ctxOf(t), c)
			if err == nil {
				task.Delete(ctxOf(t))
				t.Fatal("no error")
			}
			var se *runtime.StartError
			code := 0
			if errors.As(err, &se) {
				code = se.Code
			}
			if s.env.Foreign {
				if (tt.code == 126 || tt.code == 127) && code != tt.code {
					t.Errorf("got code %d, %q, want %d", code, err, tt.code)
				}
			} else if tt.text != "" && (code != tt.code || !strings.HasPrefix(err.Error(), tt.text)) {
				t.Errorf("got code %d, %q, want %d, %q", code, err, tt.code, tt.text)
			}
			h.gone(t, c)
		})
	}
	s.run(t, "attachment of a failed start is not told", func(t *testing.T) {
		c := h.container("nope")
		c.Attach = []*runtime.Streams{{Stdout: &buffer{}, Done: func(error) { t.Error("told") }}}
		if _, err := h.r.Start(ctxOf(t), c); err == nil {
			t.Fatal("no error")
		}
	})
	s.run(t, "log cannot be opened", func(t *testing.T) {
		c := h.container("true")
		c.Log.Path = filepath.Join(h.root, "missing", "log")
		if _, err := h.r.Start(ctxOf(t), c); err == nil || !strings.Contains(err.Error(), "open log") {
			t.Errorf("got %v", err)
		}
		h.gone(t, c)
	})
}
