package registry_test

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"testing"

	"muelle/internal/registry"
)

func TestServe(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	ready := make(chan net.Addr, 1)
	ended := make(chan error, 1)
	go func() {
		ended <- registry.Serve(ctx, registry.Options{
			Addr: "127.0.0.1:0", Root: t.TempDir(), Log: slog.New(slog.DiscardHandler), Ready: func(a net.Addr) { ready <- a },
		})
	}()
	var addr net.Addr
	select {
	case addr = <-ready:
	case err := <-ended:
		t.Fatal(err)
	}
	resp, err := http.Get("http://" + addr.String() + "/v2/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("/v2/ answers %s", resp.Status)
	}
	http.DefaultClient.CloseIdleConnections()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestServeRefusesOtherMachines(t *testing.T) {
	for _, addr := range []string{"0.0.0.0:0", ":0", "[::]:0", "192.0.2.1:5050", "nonsense"} {
		err := registry.Serve(t.Context(), registry.Options{Addr: addr, Root: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
		if err == nil {
			t.Errorf("%s was served", addr)
		}
	}
}
