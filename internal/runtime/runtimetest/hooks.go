package runtimetest

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"muelle/internal/runtime"
)

// hookScript writes a line about what it is told, and, when the container is created, a
// link into the root file system that the bundle's document names.
const hookScript = `#!/bin/sh
state=$(cat)
field() { echo "$state" | sed -n 's/.*"'$1'":"\{0,1\}\([^",}]*\).*/\1/p'; }
where() { for n in mnt net uts ipc pid; do readlink /proc/$1/ns/$n; done; }
log=$2
at=host
case $1 in
createRuntime) where $(field pid) >"$log.namespaces" ;;
createContainer)
	[ "$(where self)" = "$(cat "$log.namespaces")" ] && at=container
	root=$(sed -n 's/.*"root":{"path":"\([^"]*\)".*/\1/p' "$(field bundle)/config.json")
	ln -s /vendor "$root/made" || exit 1
	at="$at, pid $(field pid)" ;;
poststart) [ -d "/proc/$(field pid)" ] || at=nowhere ;;
poststop) [ -z "$(ls -d /sys/fs/cgroup/*/$(field id) 2>/dev/null)" ] || at="before the end" ;;
esac
echo "$1: $(field id) is $(field status), $at" >>"$log"
`

// hooked gives a container hooks of every kind.
func hooked(t *testing.T, c *runtime.Container) (log string) {
	t.Helper()
	dir := t.TempDir()
	// What runs as root of a user namespace must find it, and write to it.
	for at := dir; at != os.TempDir(); at = filepath.Dir(at) {
		must(t, os.Chmod(at, 0o755))
	}
	script, log := filepath.Join(dir, "hook"), filepath.Join(dir, "log")
	must(t, os.WriteFile(script, []byte(hookScript), 0o755))
	for _, f := range []string{log, log + ".namespaces"} {
		must(t, os.WriteFile(f, nil, 0o600))
		must(t, os.Chmod(f, 0o666))
	}
	hook := func(kind string) []specs.Hook {
		return []specs.Hook{{Path: script, Args: []string{"hook", kind, log}, Env: []string{"PATH=/bin:/usr/bin"}, Timeout: ptr(20)}}
	}
	c.Spec.Hooks = &specs.Hooks{
		//lint:ignore SA1019 Prestart is deprecated, and still used
		Prestart: hook("prestart"), CreateRuntime: hook("createRuntime"), CreateContainer: hook("createContainer"),
		StartContainer: []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", `(cat; echo; id -u; grep CapBnd /proc/self/status) >/tmp/started`}, Env: []string{"PATH=/bin"}}},
		Poststart:      hook("poststart"), Poststop: hook("poststop"),
	}
	return log
}

const hookLog = "prestart: ID is creating, host\ncreateRuntime: ID is creating, host\ncreateContainer: ID is creating, container, pid 1\n" +
	"poststart: ID is running, host\npoststop: ID is stopped, host\n"

func logged(t *testing.T, file string, c *runtime.Container) string {
	t.Helper()
	data, err := os.ReadFile(file)
	must(t, err)
	text := strings.ReplaceAll(string(data), c.ID, "ID")
	// runc 1.1's poststart hooks read that.
	return strings.ReplaceAll(text, "poststart: ID is created", "poststart: ID is running")
}

func testHooks(t *testing.T, s *suite) {
	h := s.host(t)
	for _, tt := range []struct {
		name   string
		change func(*runtime.Container)
	}{
		{"all kinds", func(*runtime.Container) {}},
		{"read-only root", func(c *runtime.Container) { c.Spec.Root.Readonly = true; c.Spec.Mounts = append(c.Spec.Mounts, tmp) }},
		{"init", func(c *runtime.Container) { c.Init = true }},
		{"terminal", func(c *runtime.Container) { c.Spec.Process.Terminal = true }},
		{"a user", func(c *runtime.Container) { c.Spec.Process.User = specs.User{UID: 1000, GID: 1000} }},
	} {
		s.run(t, tt.name, func(t *testing.T) {
			c := h.container("sh", "-c", `readlink /made; grep -c '"status":"created"' /tmp/started; grep -v '{' /tmp/started; touch /x 2>&1`)
			log := hooked(t, c)
			tt.change(c)
			o := h.run(t, c)
			want := "/vendor\n1\n0\nCapBnd:\t00000000a80425fb\n"
			if c.Spec.Process.User.UID != 0 {
				want = strings.Replace(want, "\n0\n", "\n1000\n", 1) + "touch: /x: Permission denied\n"
			}
			if c.Spec.Root.Readonly {
				want += "touch: /x: Read-only file system\n"
			}
			if got := strings.ReplaceAll(o.stdout, "\r", ""); got != want {
				t.Errorf("output:\n%swant:\n%s", got, want)
			}
			if got := logged(t, log, c); got != hookLog {
				t.Errorf("hooks:\n%swant:\n%s", got, hookLog)
			}
			h.gone(t, c)
		})
	}
	testHookFailures(t, h, s)
}

var tmp = specs.Mount{Destination: "/tmp", Type: "tmpfs", Source: "tmpfs"}

// testHookFailures: a hook that fails ends the start, nothing is left, and what the hook
// said is told; the hooks of the end run all the same.
func testHookFailures(t *testing.T, h *host, s *suite) {
	fail := []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "echo no luck today >&2; exit 3"}}}
	hang := []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "echo begun; sleep 1000"}, Env: []string{"PATH=/bin"}, Timeout: ptr(1)}}
	for _, tt := range []struct {
		name   string
		change func(*specs.Hooks)
		want   []string
	}{
		//lint:ignore SA1019 Prestart is deprecated, and still used
		{"prestart fails", func(h *specs.Hooks) { h.Prestart = fail }, []string{"no luck today", "exit status 3"}},
		{"createRuntime fails", func(h *specs.Hooks) { h.CreateRuntime = fail }, []string{"no luck today", "exit status 3"}},
		{"createContainer fails", func(h *specs.Hooks) { h.CreateContainer = fail }, []string{"no luck today", "exit status 3"}},
		{"startContainer fails", func(h *specs.Hooks) { h.StartContainer = fail }, []string{"no luck today", "exit status 3"}},
		{"poststart fails", func(h *specs.Hooks) { h.Poststart = fail }, []string{"no luck today", "exit status 3"}},
		{"a hook hangs", func(h *specs.Hooks) { h.CreateRuntime = hang }, nil},
		{"a hook in the container hangs", func(h *specs.Hooks) { h.CreateContainer = hang }, nil},
		{"no such hook", func(h *specs.Hooks) { h.CreateContainer = []specs.Hook{{Path: "/nonexistent/hook"}} }, []string{"/nonexistent/hook", "no such file or directory"}},
	} {
		s.run(t, tt.name, func(t *testing.T) {
			c := h.container("sleep", "1000")
			log := hooked(t, c)
			tt.change(c.Spec.Hooks)
			task, err := h.r.Start(ctxOf(t), c)
			if err == nil {
				must(t, task.Delete(ctxOf(t)))
				t.Fatal("no error")
			}
			var se *runtime.StartError
			if !s.env.Foreign && (!errors.As(err, &se) || se.Code == 126 || se.Code == 127) {
				t.Errorf("%#v is no start's error, or one of the program", err)
			}
			if tt.want == nil && !s.env.Foreign {
				tt.want = []string{"it took longer than 1 s: begun"}
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v\ndoes not say %q", err, want)
				}
			}
			if !strings.HasSuffix(logged(t, log, c), "poststop: ID is stopped, host\n") {
				t.Errorf("the hook of the end did not run:\n%s", logged(t, log, c))
			}
			h.gone(t, c)
		})
	}
	s.run(t, "the program is missing", func(t *testing.T) {
		c := h.container("nope")
		hooked(t, c)
		_, err := h.r.Start(ctxOf(t), c)
		var se *runtime.StartError
		if !errors.As(err, &se) || se.Code != 127 {
			t.Errorf("%v, want a code of 127", err)
		}
		h.gone(t, c)
	})
	s.run(t, "the end of an adopted container", func(t *testing.T) {
		c := h.container("sleep", "1000")
		log := hooked(t, c)
		h.start(t, c)
		task, err := h.r.Load(ctxOf(t), c.ID, c.Dir)
		must(t, err)
		must(t, task.Delete(ctxOf(t)))
		if got := logged(t, log, c); got != hookLog {
			t.Errorf("hooks:\n%swant:\n%s", got, hookLog)
		}
		h.gone(t, c)
	})
}

// testUserHooks: with a user namespace those that are the container's run as its root.
func testUserHooks(t *testing.T, s *suite) {
	h := s.host(t)
	c := h.container("sh", "-c", `readlink /made; stat -c %u /made /tmp/started; grep -v '{' /tmp/started`)
	remapped(c)
	log := hooked(t, c)
	expect(t, h.run(t, c), "/vendor\n0\n0\n0\nCapBnd:\t00000000a80425fb\n")
	if got := logged(t, log, c); got != hookLog {
		t.Errorf("hooks:\n%swant:\n%s", got, hookLog)
	}
	h.gone(t, c)
}
