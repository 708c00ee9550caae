package server_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	containertypes "github.com/moby/moby/api/types/container"

	"muelle/internal/container"
	"muelle/internal/event"
	"muelle/internal/server"
)

// host is a server on a unix socket, as clients meet it.
type host struct {
	t      *testing.T
	socket string
	client *http.Client
}

func serveOn(t *testing.T, o server.Options, l net.Listener) {
	t.Helper()
	if o.Bus == nil {
		o.Bus = event.NewBus(16)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- server.New(o).Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
}

func serve(t *testing.T, o server.Options) *host {
	t.Helper()
	o.Version = "1.2.3"
	if o.Bus == nil {
		o.Bus = event.NewBus(16)
	}
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	serveOn(t, o, l)
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}
	return &host{t: t, socket: socket, client: &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}
}

// raw sends a request as it is.
func (h *host) raw(request string) (*http.Response, string) {
	h.t.Helper()
	c, err := net.Dial("unix", h.socket)
	if err != nil {
		h.t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, request); err != nil {
		h.t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		h.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	return res, string(body)
}

func (h *host) do(method, path, contentType, body string) (*http.Response, string) {
	h.t.Helper()
	req, err := http.NewRequestWithContext(h.t.Context(), method, "http://muelle"+path, strings.NewReader(body))
	if err != nil {
		h.t.Fatal(err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	res, err := h.client.Do(req)
	if err != nil {
		h.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	return res, string(b)
}

func message(t *testing.T, body string) string {
	t.Helper()
	var e struct {
		Message string `json:"message"`
	}
	if err := json.Unmarshal([]byte(body), &e); err != nil {
		t.Fatalf("body %q: %v", body, err)
	}
	return e.Message
}

// containers is a fake: the embedded interface panics where a test gave nothing.
type containers struct {
	server.Containers
	start  func(ctx context.Context, ref string) error
	create func(o container.CreateOptions) (containertypes.CreateResponse, error)
	attach func(ctx context.Context, ref string, o container.AttachOptions) error
	wait   func(ctx context.Context, ref string, c containertypes.WaitCondition) (func(context.Context) (containertypes.WaitResponse, error), error)
}

func (c containers) Start(ctx context.Context, ref string) error { return c.start(ctx, ref) }

func (c containers) Create(_ context.Context, o container.CreateOptions) (containertypes.CreateResponse, error) {
	return c.create(o)
}

func (c containers) Attach(ctx context.Context, ref string, o container.AttachOptions) error {
	return c.attach(ctx, ref, o)
}

func (c containers) Wait(ctx context.Context, ref string, cond containertypes.WaitCondition) (func(context.Context) (containertypes.WaitResponse, error), error) {
	return c.wait(ctx, ref, cond)
}

func TestErrorClasses(t *testing.T) {
	for _, tc := range []struct {
		name string
		err  error
		want int
	}{
		{"NotModified", errdefs.ErrNotModified, 304},
		{"InvalidArgument", errdefs.ErrInvalidArgument, 400},
		{"OutOfRange", errdefs.ErrOutOfRange, 400},
		{"Unauthenticated", errdefs.ErrUnauthenticated, 401},
		{"PermissionDenied", errdefs.ErrPermissionDenied, 403},
		{"NotFound", errdefs.ErrNotFound, 404},
		{"Conflict", errdefs.ErrConflict, 409},
		{"AlreadyExists", errdefs.ErrAlreadyExists, 409},
		{"Aborted", errdefs.ErrAborted, 409},
		{"FailedPrecondition", errdefs.ErrFailedPrecondition, 409},
		{"ResourceExhausted", errdefs.ErrResourceExhausted, 429},
		{"NotImplemented", errdefs.ErrNotImplemented, 501},
		{"Unavailable", errdefs.ErrUnavailable, 503},
		{"Internal", errdefs.ErrInternal, 500},
		{"DataLoss", errdefs.ErrDataLoss, 500},
		{"Unknown", errdefs.ErrUnknown, 500},
		{"canceled", context.Canceled, 500},
		{"deadline", context.DeadlineExceeded, 500},
		{"none", errors.New("boom"), 500},
		{"wrapped", fmt.Errorf("start: %w", errdefs.ErrNotFound.WithMessage("No such container: x")), 404},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := serve(t, server.Options{Containers: containers{start: func(context.Context, string) error { return tc.err }}})
			res, body := h.do("POST", "/v1.44/containers/x/start", "", "")
			if res.StatusCode != tc.want {
				t.Errorf("status %d, want %d", res.StatusCode, tc.want)
			}
			if tc.want == 304 {
				if body != "" {
					t.Errorf("body %q", body)
				}
				return
			}
			if diff := cmp.Diff(tc.err.Error(), message(t, body)); diff != "" {
				t.Error(diff)
			}
			if got := res.Header.Get("Content-Type"); got != "application/json" {
				t.Errorf("content type %q", got)
			}
		})
	}
}

func TestRouting(t *testing.T) {
	var started string
	h := serve(t, server.Options{Containers: containers{start: func(_ context.Context, ref string) error { started = ref; return nil }}})
	for _, tc := range []struct {
		name, method, path string
		status             int
		want               string
	}{
		{"ping", "GET", "/_ping", 200, "OK"},
		{"options", "OPTIONS", "/v1.44/containers/json", 200, ""},
		{"ping of a version", "GET", "/v1.24/_ping", 200, "OK"},
		{"ping head", "HEAD", "/_ping", 200, ""},
		{"too old", "GET", "/v1.23/_ping", 400, "client version 1.23 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version"},
		{"too new", "GET", "/v1.57/_ping", 400, "client version 1.57 is too new. Maximum supported API version is 1.56"},
		{"far too new", "GET", "/v2.0/_ping", 400, "client version 2.0 is too new. Maximum supported API version is 1.56"},
		{"no version", "GET", "/v1.x/_ping", 404, "page not found"},
		{"unknown path", "GET", "/v1.44/nothing", 404, "page not found"},
		{"other method", "PUT", "/v1.44/containers/web/start", 404, "page not found"},
		{"root", "GET", "/", 404, "page not found"},
		{"start", "POST", "/v1.44/containers/web/start", 204, ""},
		{"unsupported", "GET", "/v1.44/plugins/one/json", 501, "GET /plugins/{name}/json is not supported by this version of Muelle"},
		{"unsupported with slashes", "GET", "/v1.44/distribution/a/b/c/json", 501, "GET /distribution/{name}/json is not supported by this version of Muelle"},
		{"checkpoint", "DELETE", "/v1.44/containers/web/checkpoints/one", 501, "checkpoints are not supported: writing a running process to disk takes CRIU, and Muelle runs without other programs; stop the container, or commit its files"},
		{"swarm", "GET", "/v1.44/services", 503, "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again."},
		{"plugins", "GET", "/v1.44/plugins", 200, "[]\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			res, body := h.do(tc.method, tc.path, "", "")
			if res.StatusCode != tc.status {
				t.Errorf("status %d, want %d (%s)", res.StatusCode, tc.status, body)
			}
			if res.StatusCode >= 400 {
				body = message(t, body)
			}
			if diff := cmp.Diff(tc.want, body); diff != "" {
				t.Error(diff)
			}
		})
	}
	if started != "web" {
		t.Errorf("started %q", started)
	}
}

func TestHeaders(t *testing.T) {
	h := serve(t, server.Options{})
	res, _ := h.do("HEAD", "/_ping", "", "")
	for key, want := range map[string]string{
		"Server": "Muelle/1.2.3 (linux)", "Api-Version": "1.56", "Ostype": "linux", "Docker-Experimental": "false",
		"Builder-Version": "2", "Swarm": "inactive", "Cache-Control": "no-cache, no-store, must-revalidate", "Pragma": "no-cache", "Content-Length": "0",
	} {
		if got := res.Header.Get(key); got != want {
			t.Errorf("%s: %q, want %q", key, got, want)
		}
	}
}

// Old clients bring no buildx: they must not choose BuildKit by themselves.
func TestBuilderByClient(t *testing.T) {
	h := serve(t, server.Options{})
	for agent, want := range map[string]string{
		"Docker-Client/20.10.24+dfsg1 (linux)": "1", "Docker-Client/23.0.1 (linux)": "2", "Docker-Client/28.2.2 (linux)": "2", "Docker-Client/unknown-version (linux)": "2", "": "2",
	} {
		req, err := http.NewRequest("GET", "http://muelle/_ping", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("User-Agent", agent)
		res, err := h.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if got := res.Header.Get("Builder-Version"); got != want {
			t.Errorf("%q: %s, want %s", agent, got, want)
		}
	}
}

func TestBodies(t *testing.T) {
	h := serve(t, server.Options{Containers: containers{create: func(o container.CreateOptions) (containertypes.CreateResponse, error) {
		return containertypes.CreateResponse{ID: o.Name + ":" + o.Config.Image + ":" + o.Platform}, nil
	}}})
	for _, tc := range []struct {
		name, contentType, body string
		status                  int
		want                    string
	}{
		{"good", "application/json", `{"Image":"busybox","Unknown":1}`, 201, `{"Id":"web:busybox:linux/arm64","Warnings":[]}` + "\n"},
		{"charset", "application/json; charset=utf-8", `{"Image":"busybox"}`, 201, `{"Id":"web:busybox:linux/arm64","Warnings":[]}` + "\n"},
		{"empty", "application/json", ``, 400, "config cannot be empty in order to create a container"},
		{"no json", "text/plain", `{"Image":"busybox"}`, 400, "unsupported Content-Type header (text/plain): must be 'application/json'"},
		{"cut", "application/json", `{"Image":`, 400, "invalid JSON: unexpected EOF"},
		{"wrong type", "application/json", `{"Image":1}`, 400, "invalid JSON: json: cannot unmarshal number into Go struct field CreateRequest.Config.Image of type string"},
		{"more", "application/json", `{"Image":"a"}{}`, 400, "unexpected content after JSON"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			res, body := h.do("POST", `/v1.44/containers/create?name=web&platform={"os":"linux","architecture":"arm64"}`, tc.contentType, tc.body)
			if res.StatusCode != tc.status {
				t.Errorf("status %d, want %d", res.StatusCode, tc.status)
			}
			if res.StatusCode >= 400 {
				body = message(t, body)
			}
			if diff := cmp.Diff(tc.want, body); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestBodyIsBounded(t *testing.T) {
	s := server.New(server.Options{})
	r := httptest.NewRequest("POST", "/containers/create", strings.NewReader(`{"Image":"`+strings.Repeat("a", 17<<20)+`"}`))
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	if w.Code != 400 || message(t, w.Body.String()) != "request body is larger than 16 MiB" {
		t.Errorf("status %d, body %.200s", w.Code, w.Body)
	}
}

func TestPanicIsAnswered(t *testing.T) {
	h := serve(t, server.Options{Containers: containers{start: func(context.Context, string) error { panic("oops") }}})
	res, body := h.do("POST", "/containers/x/start", "", "")
	if res.StatusCode != 500 || message(t, body) != "internal error: see the daemon's log" {
		t.Errorf("status %d, body %s", res.StatusCode, body)
	}
}
