package main

import (
	"io"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestRenewed: of a file with a new value for each of some keys, those that the table
// marks are taken over, and the others are named.
func TestRenewed(t *testing.T) {
	read := func(text string) *config {
		t.Helper()
		c, err := parse([]string{"--config-file", configFile(t, text)}, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	before := read(`{"debug":true,"log-opts":{"max-size":"1m"},"dns":["192.0.2.1"],"containerd":"/a"}`)
	if merged, later := before.renewed(read(`{"debug":true,"log-opts":{"max-size":"1m"},"dns":["192.0.2.1"],"containerd":"/b"}`)); len(later) > 0 || !merged.Debug {
		t.Errorf("nothing has changed but %v", later)
	}
	merged, later := before.renewed(read(`{"labels":["a=b"],"features":{"cdi":false},"log-level":"warn","shutdown-timeout":3,"max-concurrent-uploads":1,
		"mtu":1400,"dns":["192.0.2.2"],"bip":"10.200.0.1/24","data-root":"/elsewhere","tls":true,"runtimes":{"x":{"path":"runc"}}}`))
	want := []string{"data-root", "tls", "tlsverify", "log-opts", "bip", "dns", "mtu"}
	slices.Sort(want)
	slices.Sort(later)
	if diff := cmp.Diff(want, later); diff != "" {
		t.Error(diff)
	}
	if merged.Debug || merged.LogLevel != "warn" || merged.ShutdownTimeout != 3 || merged.MaxUploads != 1 || merged.Features["cdi"] || len(merged.Labels) != 1 || len(merged.Runtimes) != 1 {
		t.Errorf("not taken over: %+v", merged)
	}
	if merged.MTU != 0 || merged.DataRoot != before.DataRoot || merged.DNS[0].String() != "192.0.2.1" || merged.LogOpts["max-size"] != "1m" {
		t.Errorf("taken over: %+v", merged)
	}
	if !before.Debug || before.MaxUploads == 1 {
		t.Error("the old configuration was changed")
	}
}
