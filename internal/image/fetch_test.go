package image_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/jsonstream"

	"muelle/internal/image"
	"muelle/internal/remote"
)

func rootfs(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	if err := errors.Join(w.WriteHeader(&tar.Header{Name: "hello", Mode: 0o644, Size: 2}), func() error { _, err := w.Write([]byte("hi")); return err }(), w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestImportURL: what an http server gives is imported, and what it refuses is told.
func TestImportURL(t *testing.T) {
	e := open(t, remote.Options{})
	archive := rootfs(t)
	stopped := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	mux := http.NewServeMux()
	mux.HandleFunc("/rootfs.tgz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(archive) })
	mux.Handle("/moved", http.RedirectHandler("/rootfs.tgz", http.StatusFound))
	mux.Handle("/round", http.RedirectHandler("/round", http.StatusFound))
	mux.HandleFunc("/private", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "not \x1b[31myou", http.StatusForbidden) })
	mux.HandleFunc("/broken", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, strings.Repeat("x", 1<<20), http.StatusBadGateway)
	})
	mux.HandleFunc("/none", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("/short", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(len(archive)))
		_, _ = w.Write(archive[:len(archive)/2])
	})
	mux.HandleFunc("/endless", func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write(archive[:20])
		w.(http.Flusher).Flush()
		cancel() // the client of the API goes away
		<-r.Context().Done()
		close(stopped)
	})
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	at := strings.TrimPrefix(srv.URL, "http://")
	for _, tt := range []struct {
		name, url, want string
		is              func(error) bool
	}{
		{"served", srv.URL + "/rootfs.tgz", "", nil},
		{"without a scheme", at + "/rootfs.tgz", "", nil},
		{"redirected", srv.URL + "/moved", "", nil},
		{"with a password", "http://me:secret@" + at + "/rootfs.tgz", "", nil},
		{"redirected for ever", srv.URL + "/round", "stopped after 10 redirects", nil},
		{"not found", "http://me:secret@" + at + "/nothing", "failed to GET http://me:xxxxx@" + at + "/nothing with status 404 Not Found: 404 page not found", errdefs.IsNotFound},
		{"forbidden", srv.URL + "/private", "with status 403 Forbidden: not [31myou", errdefs.IsPermissionDenied},
		{"another error", srv.URL + "/broken", "with status 502 Bad Gateway: xxx", errdefs.IsUnknown},
		{"nothing", srv.URL + "/none", "with status 204 No Content", errdefs.IsUnknown},
		{"cut short", srv.URL + "/short", "unexpected EOF", errdefs.IsInvalidArgument},
		{"another scheme", "ftp://" + at + "/rootfs.tgz", `unsupported protocol scheme "ftp"`, errdefs.IsInvalidArgument},
		{"a file", "file:///etc/passwd", `unsupported protocol scheme "file"`, errdefs.IsInvalidArgument},
		{"no host", "http://", "no host", errdefs.IsInvalidArgument},
		{"no URL", "http://me:secret@[::1", "invalid URL to import from: missing ']' in host", errdefs.IsInvalidArgument},
		{"nobody listens", "http://127.0.0.1:1/x", "connection refused", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var said []string
			id, err := e.ImportURL(t.Context(), image.ImportOptions{}, tt.url, func(m jsonstream.Message) { said = append(said, m.Status) })
			if err != nil && (strings.Contains(err.Error(), "secret") || len(err.Error()) > 2000) {
				t.Errorf("it tells too much: %v", err)
			}
			if tt.want != "" {
				if err == nil || !strings.Contains(err.Error(), tt.want) || tt.is != nil && !tt.is(err) {
					t.Errorf("%v, not %q", err, tt.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(said) < 2 || !strings.HasPrefix(said[0], "Downloading from http://") || said[len(said)-1] != "Importing" || strings.Contains(said[0], "secret") {
				t.Errorf("it says %q", said)
			}
			h, err := e.History(t.Context(), id.String())
			if err != nil || len(h) != 1 || !strings.HasPrefix(h[0].Comment, "Imported from http://") || strings.Contains(h[0].Comment, "secret") {
				t.Errorf("history %+v, %v", h, err)
			}
		})
	}
	if _, err := e.ImportURL(ctx, image.ImportOptions{}, srv.URL+"/endless", func(jsonstream.Message) {}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	<-stopped
}
