package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"muelle/client"
)

// TestMain makes this program the ssh of the tests: it says what it was called with
// and leads to the socket that the environment names.
func TestMain(m *testing.M) {
	socket := os.Getenv("FAKE_SSH_SOCKET")
	if socket == "" {
		os.Exit(m.Run())
	}
	if err := os.WriteFile(os.Getenv("FAKE_SSH_ARGS"), []byte(strings.Join(os.Args[1:], "\n")), 0o600); err != nil {
		panic(err)
	}
	conn, err := net.Dial("unix", socket)
	if err != nil {
		fmt.Fprintln(os.Stderr, "Permission denied (publickey).")
		os.Exit(255)
	}
	go func() {
		_, _ = io.Copy(conn, os.Stdin)
		_ = conn.(*net.UnixConn).CloseWrite()
	}()
	_, _ = io.Copy(os.Stdout, conn)
}

// fakeSSH puts this program into PATH as ssh and returns where its arguments go.
func fakeSSH(t *testing.T, socket string) (args string) {
	t.Helper()
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(dir, "ssh")); err != nil {
		t.Fatal(err)
	}
	args = filepath.Join(dir, "args")
	t.Setenv("PATH", dir)
	t.Setenv("FAKE_SSH_SOCKET", socket)
	t.Setenv("FAKE_SSH_ARGS", args)
	return args
}

func TestSSH(t *testing.T) {
	there := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/attach") {
			_, _ = io.WriteString(w, `{"Name":"there"}`)
			return
		}
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = conn.Close() }()
		_, _ = rw.WriteString("HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
		_ = rw.Flush()
		in, err := io.ReadAll(rw.Reader)
		if err != nil {
			t.Error(err)
		}
		_, _ = rw.Write(in)
		_ = rw.Flush()
	})
	args := fakeSSH(t, strings.TrimPrefix(there.Host(), "unix://"))
	c, err := client.New(client.Options{Host: "ssh://me@host:2222/run/it's.sock", Remote: "docker"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	info, err := c.System.Info(t.Context())
	if err != nil || info.Name != "there" {
		t.Fatalf("%q, %v", info.Name, err)
	}
	got, err := os.ReadFile(args)
	want := "-l\nme\n-p\n2222\n-o\nConnectTimeout=30\n-T\n--\nhost\ndocker --host='unix:///run/it'\\''s.sock' system dial-stdio"
	if err != nil || string(got) != want {
		t.Errorf("%q, want %q (%v)", got, want, err)
	}
	// What half-closes at this end does so at the other.
	conn, err := c.Containers.Attach(t.Context(), "x", client.AttachOptions{Stdin: true, Stream: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("echo")); err != nil {
		t.Fatal(err)
	}
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(conn); err != nil || string(b) != "echo" {
		t.Errorf("%q, %v", b, err)
	}
	_ = conn.Close()
}

func TestSSHFailureIsTold(t *testing.T) {
	fakeSSH(t, "/nonexistent/socket")
	c, err := client.New(client.Options{Host: "ssh://host"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.System.Info(context.Background())
	u := new(client.UnreachableError)
	want := "command [ssh -o ConnectTimeout=30 -T -- host muelle system dial-stdio] has exited with exit status 255, make sure the URL is valid and the program is installed on the remote host: stderr=Permission denied (publickey)."
	if !errors.As(err, &u) || u.Err.Error() != want {
		t.Errorf("%v", err)
	}
}
