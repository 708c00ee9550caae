package why_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	ctypes "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"

	"muelle/api"
	"muelle/internal/container"
	"muelle/internal/why"
)

// TestLines: lines that programs print, and what is made of them. The container's root
// is this machine's.
func TestLines(t *testing.T) {
	empty, full := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "x"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	bind := func(src, dst string) []ctypes.MountPoint {
		return []ctypes.MountPoint{{Type: mount.TypeBind, Source: src, Destination: dst, RW: true}}
	}
	for _, tt := range []struct {
		name, line string
		code, uid  int
		network    string
		mounts     []ctypes.MountPoint
		cause      string // of the first finding; empty: none
		says       []string
	}{
		{name: "localhost", line: "psycopg2.OperationalError: connection to server at \"localhost\" (127.0.0.1), port 5432 failed: Connection refused", cause: "refused", says: []string{"the container itself"}},
		{name: "localhost with port", line: "Error: connect ECONNREFUSED 127.0.0.1:6379", network: "bridge", cause: "refused", says: []string{"localhost:6379", "default bridge"}},
		{name: "IPv6 itself", line: "dial tcp [::1]:5432: connect: connection refused", cause: "refused", says: []string{"the container itself"}},
		{name: "localhost of the host", line: "Error: connect ECONNREFUSED 127.0.0.1:6379", network: "host", cause: "refused", says: []string{"127.0.0.1:6379", "at that moment"}},
		{name: "server by name", line: "dial tcp db:5432: connect: connection refused", cause: "refused", says: []string{"db:5432", "service_healthy"}},
		{name: "server by address", line: "Error: connect ECONNREFUSED 172.18.0.2:5432", cause: "refused", says: []string{"172.18.0.2:5432"}},
		{name: "server unnamed", line: "Connection refused", cause: "refused", says: []string{"a server"}},
		{name: "missing file", line: "cat: can't open '/nosuch/app.conf': No such file or directory", cause: "missing-file", says: []string{"looked for /nosuch/app.conf", "only / is there", "COPY"}},
		{name: "missing file of Python", line: "python: can't open file '/nosuch/app.py': [Errno 2] No such file or directory", cause: "missing-file", says: []string{"/nosuch/app.py"}},
		{name: "missing file below a mount", line: "open /app/main.py: no such file or directory", mounts: bind(full, "/app"), cause: "missing-file", says: []string{full + " is mounted at /app and hides"}},
		{name: "there now", line: "open /app/x: no such file or directory", mounts: bind(full, "/app"), cause: ""},
		{name: "file without a path", line: "app.conf: No such file or directory", cause: ""},
		{name: "folder for a file", line: "cat: read error: Is a directory", mounts: bind(empty, "/etc/app.conf"), cause: "mounted-folder", says: []string{"/etc/app.conf is an empty folder", "rmdir " + empty}},
		{name: "folder for a file by name", line: "open /etc/app: is a directory", mounts: bind(empty, "/etc/app"), cause: "mounted-folder"},
		{name: "folder with files", line: "open /etc/app: is a directory", mounts: bind(full, "/etc/app"), cause: ""},
		{name: "name", line: "wget: bad address 'db'", network: "bridge", cause: "unresolved-name", says: []string{"resolve db"}},
		{name: "name in Python", line: "could not translate host name \"db\" to address: Name or service not known", cause: "unresolved-name", says: []string{"resolve db"}},
		{name: "name in Python's sockets", line: "socket.gaierror: [Errno -3] Temporary failure in name resolution", cause: "unresolved-name"},
		{name: "name in Node", line: "Error: getaddrinfo ENOTFOUND db", cause: "unresolved-name", says: []string{"resolve db"}},
		{name: "name in Java", line: "java.net.UnknownHostException: db", cause: "unresolved-name", says: []string{"resolve db"}},
		{name: "in use", line: "OSError: [Errno 98] Address already in use", cause: "port-taken-inside"},
		{name: "in use of the host", line: "listen EADDRINUSE: address already in use :::80", network: "host", cause: "port-taken-inside", says: []string{"ss -ltnp"}},
		{name: "not permitted", line: "mount: permission denied (are you root?)", cause: "denied-syscall", says: []string{"mounting"}},
		{name: "port below 1024 is no such thing", line: "hello", cause: ""},
		{name: "library", line: "/x: error while loading shared libraries: libfoo.so.1: cannot open shared object file", code: 127, cause: "missing-library", says: []string{"libfoo.so.1"}},
		{name: "C library", line: "/lib/libc.so.6: version `GLIBC_2.38' not found (required by /x)", cause: "wrong-libc"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.network == "" {
				tt.network = "net"
			}
			e := &container.Evidence{
				Name: "c", Path: "/bin/app", Config: &ctypes.Config{Image: "img"}, HostConfig: &ctypes.HostConfig{NetworkMode: ctypes.NetworkMode(tt.network)},
				Mounts: tt.mounts, State: &ctypes.State{Status: ctypes.StateExited}, Started: true, UID: tt.uid,
				Endings: []container.Ending{{Code: max(tt.code, 1)}},
			}
			if tt.mounts == nil {
				e.State.Pid = os.Getpid()
			}
			found := why.FromLog(t.Context(), e, nil, "an earlier line", tt.line)
			if len(found) == 0 {
				if tt.cause != "" {
					t.Fatal("nothing was said")
				}
				return
			}
			f := found[0]
			text := f.What + " " + strings.Join(f.Do, " ")
			for _, e := range f.Evidence {
				text += " " + e.Text
			}
			if f.Cause != tt.cause {
				t.Errorf("cause %q, want %q: %s", f.Cause, tt.cause, text)
			}
			for _, part := range tt.says {
				if !strings.Contains(text, part) {
					t.Errorf("%q is missing in %s", part, text)
				}
			}
			if !strings.Contains(text, tt.line) {
				t.Errorf("the line is missing in %s", text)
			}
		})
	}
}

// What an earlier run asked is no evidence of this one.
func TestLookupsOfEarlierRuns(t *testing.T) {
	at := time.Date(2026, 11, 22, 18, 0, 0, 0, time.UTC)
	e := &container.Evidence{Name: "c", HostConfig: &ctypes.HostConfig{NetworkMode: "net"}}
	query := func(after time.Duration) api.DNSQuery {
		return api.DNSQuery{At: at.Add(after), Name: "db", Type: "A", Code: "NXDOMAIN"}
	}
	for name, tt := range map[string]struct {
		queries []api.DNSQuery
		want    int
	}{
		"earlier": {[]api.DNSQuery{query(-time.Minute)}, 0},
		"both":    {[]api.DNSQuery{query(-time.Minute), query(time.Second)}, 1},
	} {
		found := why.Unresolved(e, &container.Ending{StartedAt: at, Code: 1}, "db", tt.queries...)
		if got := len(found[0].Evidence); got != tt.want {
			t.Errorf("%s: %d pieces of evidence, want %d", name, got, tt.want)
		}
	}
}
