package system_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/registry"
)

func TestLogin(t *testing.T) {
	reg := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, ok := r.BasicAuth(); !ok || user != "ana" || password != "secret" {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if r.URL.Path != "/v2/" {
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer reg.Close()
	for _, tc := range []struct {
		name, address, password string
		ok                      func(error) bool
	}{
		{"good", reg.Listener.Addr().String(), "secret", func(err error) bool { return err == nil }},
		{"good, as URL", reg.URL, "secret", func(err error) bool { return err == nil }},
		{"wrong password", reg.Listener.Addr().String(), "guess", errdefs.IsUnauthorized},
		{"bad address", "%zz", "secret", errdefs.IsInvalidArgument},
	} {
		t.Run(tc.name, func(t *testing.T) {
			answer, err := service(t).Login(t.Context(), registry.AuthConfig{Username: "ana", Password: tc.password, ServerAddress: tc.address})
			if !tc.ok(err) {
				t.Errorf("error %v", err)
			}
			if err == nil && answer.Status != "Login Succeeded" {
				t.Errorf("status %q", answer.Status)
			}
		})
	}
}
