package remote_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/registry"

	"muelle/internal/remote"
)

func newResolver(t *testing.T, o remote.Options) *remote.Resolver {
	t.Helper()
	r, err := remote.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestNewRefuses(t *testing.T) {
	for name, o := range map[string]remote.Options{
		"plain mirror elsewhere":   {Mirrors: []string{"http://mirror.example"}},
		"mirror without scheme":    {Mirrors: []string{"127.0.0.1:5050"}},
		"mirror with credentials":  {Mirrors: []string{"https://ann:secret@mirror.example"}},
		"mirror with query":        {Mirrors: []string{"https://mirror.example?x=1"}},
		"mirror by another scheme": {Mirrors: []string{"ftp://mirror.example"}},
		"insecure URL":             {Insecure: []string{"ftp://registry.example"}},
		"insecure path":            {Insecure: []string{"registry.example/x"}},
		"empty insecure":           {Insecure: []string{""}},
	} {
		if _, err := remote.New(o); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestInsecure(t *testing.T) {
	r := newResolver(t, remote.Options{Insecure: []string{"plain.example", "Ported.example:5000", "10.0.0.0/8", "2001:db8::/32", "http://schemed.example", "HTTPS://tls.example:5000"}})
	for host, want := range map[string]bool{
		"localhost": true, "localhost:5000": true, "127.0.0.1:5050": true, "127.9.9.9": true, "[::1]:5000": true, "::1": true,
		"plain.example": true, "plain.example:8080": true, "PLAIN.example": true,
		"ported.example:5000": true, "ported.example:5001": false,
		"10.1.2.3:80": true, "11.1.2.3:80": false, "[2001:db8::1]:80": true, "[2001:db9::1]": false,
		"schemed.example": true, "tls.example:5000": true, "tls.example": false,
		"localhost.invalid": false, "notplain.example.invalid": false,
	} {
		if got := r.Insecure(host); got != want {
			t.Errorf("Insecure(%q) = %v", host, got)
		}
	}
}

func TestHosts(t *testing.T) {
	r := newResolver(t, remote.Options{Mirrors: []string{"http://127.0.0.1:5050", "https://mirror.example/hub/"}})
	type host struct{ Scheme, Host, Path string }
	for name, want := range map[string][]host{
		"docker.io": {
			{"http", "127.0.0.1:5050", "/v2"}, {"https", "mirror.example", "/hub/v2"}, {"https", "registry-1.docker.io", "/v2"},
		},
		"quay.io": {{"https", "quay.io", "/v2"}},
	} {
		hosts, err := r.Hosts(nil)(name)
		if err != nil {
			t.Fatal(err)
		}
		var got []host
		for _, h := range hosts {
			got = append(got, host{h.Scheme, h.Host, h.Path})
			if push := h.Capabilities.Has(docker.HostCapabilityPush); push != (h.Host == "registry-1.docker.io" || h.Host == "quay.io") {
				t.Errorf("%s: push is %v", h.Host, push)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestTokenGoesToRegistryOnly(t *testing.T) {
	r := newResolver(t, remote.Options{Mirrors: []string{"https://mirror.example"}})
	hosts, err := r.Hosts(&registry.AuthConfig{RegistryToken: "token"})("docker.io")
	if err != nil {
		t.Fatal(err)
	}
	if got := hosts[0].Header.Get("Authorization"); got != "" {
		t.Errorf("the mirror is told %q", got)
	}
	if got := hosts[1].Header.Get("Authorization"); got != "Bearer token" {
		t.Errorf("the registry is told %q", got)
	}
}

// client gives the HTTP client for a registry's own host.
func client(t *testing.T, r *remote.Resolver, name string) *http.Client {
	t.Helper()
	hosts, err := r.Hosts(nil)(name)
	if err != nil {
		t.Fatal(err)
	}
	return hosts[len(hosts)-1].Client
}

func TestPlainHTTP(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		_, _ = w.Write(body)
	}))
	defer server.Close()
	tlsServer := httptest.NewTLSServer(http.RedirectHandler("http://registry.example/blob", http.StatusFound))
	defer tlsServer.Close()
	r := newResolver(t, remote.Options{})
	host := strings.TrimPrefix(server.URL, "http://")

	// https is tried first, plain HTTP after it, with the body whole both times.
	for range 2 {
		resp, err := client(t, r, host).Post("https://"+host+"/v2/", "text/plain", strings.NewReader("hello"))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || string(body) != "hello" {
			t.Errorf("body %q, %v", body, err)
		}
	}
	for _, c := range []*http.Client{client(t, r, "registry.example"), client(t, r, "localhost")} {
		if _, err := c.Get("http://registry.example/v2/"); !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "--insecure-registry") {
			t.Errorf("plain HTTP to another machine: %v", err)
		}
	}
	// A redirect to plain HTTP is refused too.
	if _, err := client(t, r, "localhost").Get(tlsServer.URL); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("redirect: %v", err)
	}
	// Only insecure registries go without a verified certificate.
	if _, err := client(t, r, "registry.example").Get(tlsServer.URL); err == nil {
		t.Error("an unverified certificate was accepted")
	}
}

func TestExplain(t *testing.T) {
	name, err := reference.ParseNormalizedNamed("busybox:3")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		in    error
		class func(error) bool
		want  string
	}{
		{"not found", errdefs.ErrNotFound, errdefs.IsNotFound, "manifest for busybox:3 not found: manifest unknown: manifest unknown"},
		{"denied", docker.ErrInvalidAuthorization, errdefs.IsNotFound, "pull access denied for busybox, repository does not exist or may require 'docker login'"},
		{"cancelled", context.Canceled, func(err error) bool { return errors.Is(err, context.Canceled) }, "context canceled"},
		{"other", errors.New("odd"), func(error) bool { return true }, "pull busybox: odd"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := remote.Explain(name, "pull", tt.in)
			if got.Error() != tt.want || !tt.class(got) {
				t.Errorf("%v", got)
			}
		})
	}
	if remote.Explain(name, "pull", nil) != nil {
		t.Error("an error of nothing")
	}
}
