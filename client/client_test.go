package client_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"muelle/api"
	"muelle/client"
)

func TestHosts(t *testing.T) {
	for _, tc := range []struct{ host, err string }{
		{"", ""},
		{"unix:///a/b", ""},
		{"tcp://example.org:2375/prefix", ""},
		{"ssh://me@example.org:22/run/x.sock", ""},
		{"ssh://me:secret@example.org", "invalid SSH URL: plain-text password is not supported"},
		{"ssh://-oProxyCommand=x", "invalid SSH URL: "},
		{"ssh://", "unable to parse docker host"},
		{"npipe:////./pipe/docker", `unsupported protocol scheme "npipe"`},
		{"nothing", "unable to parse docker host `nothing`"},
		{"unix://", "unable to parse docker host `unix://`"},
	} {
		_, err := client.New(client.Options{Host: tc.host})
		if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.HasPrefix(err.Error(), tc.err)) {
			t.Errorf("%q: %v, want %q", tc.host, err, tc.err)
		}
	}
}

func serve(t *testing.T, h http.HandlerFunc) *client.Client {
	t.Helper()
	dir, err := os.MkdirTemp("", "client")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: h}}
	s.Start()
	c, err := client.New(client.Options{Host: "unix://" + filepath.Join(dir, "s")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Close()
		s.Close()
		_ = os.RemoveAll(dir)
	})
	return c
}

func TestErrorClasses(t *testing.T) {
	status := 0
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, `{"message":"words of the daemon\n"}`)
	})
	for code, is := range map[int]func(error) bool{
		400: errdefs.IsInvalidArgument, 401: errdefs.IsUnauthorized, 403: errdefs.IsPermissionDenied, 404: errdefs.IsNotFound,
		409: errdefs.IsConflict, 500: errdefs.IsInternal, 501: errdefs.IsNotImplemented, 503: errdefs.IsUnavailable,
	} {
		status = code
		err := c.Containers.Start(context.Background(), "x")
		if err == nil || err.Error() != "Error response from daemon: words of the daemon" || !is(err) {
			t.Errorf("%d: %v", code, err)
		}
	}
	status = 304
	if err := c.Containers.Start(context.Background(), "x"); err != nil {
		t.Errorf("304: %v", err)
	}
}

// TestNegotiation: the newest version first, the server's after it refused, and for
// a body that cannot be sent twice a ping before.
func TestNegotiation(t *testing.T) {
	var seen []string
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		seen = append(seen, r.Method+" "+r.URL.Path)
		w.Header().Set("Api-Version", "1.43")
		if strings.HasPrefix(r.URL.Path, "/v"+api.DefaultVersion+"/") {
			http.Error(w, "client version "+api.DefaultVersion+" is too new. Maximum supported API version is 1.43", http.StatusBadRequest)
			return
		}
		_, _ = io.WriteString(w, "{}")
	})
	if _, err := c.System.Info(context.Background()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.System.Info(context.Background()); err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(seen, ","), "GET /v"+api.DefaultVersion+"/info,GET /v1.43/info,GET /v1.43/info"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	seen = nil
	d, err := client.New(client.Options{Host: c.Host()})
	if err != nil {
		t.Fatal(err)
	}
	body, err := d.Images.Load(context.Background(), strings.NewReader("tar"), true, nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = body.Close()
	if got, want := strings.Join(seen, ","), "GET /_ping,POST /v1.43/images/load"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestHijack(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/good/attach") {
			http.Error(w, "no such container", http.StatusNotFound)
			return
		}
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = conn.Close() }()
		_, _ = rw.WriteString("HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nhello ")
		_ = rw.Flush()
		in, err := io.ReadAll(rw.Reader)
		if err != nil {
			t.Error(err)
		}
		_, _ = rw.Write(in)
		_ = rw.Flush()
	})
	if _, err := c.Containers.Attach(context.Background(), "bad", client.AttachOptions{}); !errdefs.IsNotFound(err) {
		t.Errorf("error %v", err)
	}
	conn, err := c.Containers.Attach(context.Background(), "good", client.AttachOptions{Stdin: true, Stream: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("there")); err != nil {
		t.Fatal(err)
	}
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(conn)
	if err != nil || string(got) != "hello there" {
		t.Errorf("%q, %v", got, err)
	}
	_ = conn.Close()
}

func TestUnreachable(t *testing.T) {
	c, err := client.New(client.Options{Host: "unix:///nonexistent/socket"})
	if err != nil {
		t.Fatal(err)
	}
	err = c.Containers.Start(context.Background(), "x")
	u := new(client.UnreachableError)
	if !errors.As(err, &u) || !errors.Is(err, os.ErrNotExist) || u.Host != "unix:///nonexistent/socket" {
		t.Errorf("error %v", err)
	}
}

func TestSplitRef(t *testing.T) {
	for in, want := range map[string][2]string{
		"a": {"a", "latest"}, "a:b": {"a", "b"}, "h:5/a": {"h:5/a", "latest"}, "h:5/a:t": {"h:5/a", "t"}, "a@sha256:x": {"a", "sha256:x"}, "a:t@sha256:x": {"a", "sha256:x"},
	} {
		if name, tag := client.SplitRef(in); name != want[0] || tag != want[1] {
			t.Errorf("%s: %s %s", in, name, tag)
		}
	}
}
