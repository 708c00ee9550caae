package store_test

import (
	"bytes"
	"compress/gzip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/containerd/containerd/v2/core/mount"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// The metadata's lock does not cover the end of a collection, so somebody who calls
// it directly may begin the next one before that.
func TestCollectionsOverlap(t *testing.T) {
	s := open(t, t.TempDir())
	defer closeStore(t, s)
	top := chain(t, t.Context(), s, "used", 2)
	s.Retain(top, "container")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 10 {
				if _, err := s.DB().GarbageCollect(t.Context()); err != nil {
					t.Error(err)
				}
				s.Retain(top, "another")
				if _, err := s.Lower(t.Context(), top); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	collect(t, s)
	if _, err := s.Lower(t.Context(), top); err != nil {
		t.Errorf("a chain in use was collected: %v", err)
	}
}

// TestNoProgramIsRun runs itself in a process of its own, with programs in PATH that
// containerd would decompress with.
func TestNoProgramIsRun(t *testing.T) {
	if os.Getenv("STORE_TEST_UNPACK") == "" {
		dir := t.TempDir()
		for _, name := range []string{"unpigz", "igzip"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n>"+dir+"/was-run\nexit 1\n"), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestNoProgramIsRun$")
		cmd.Env = append(os.Environ(), "STORE_TEST_UNPACK=1", "PATH="+dir+":"+os.Getenv("PATH"))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
		if _, err := os.Stat(filepath.Join(dir, "was-run")); err == nil {
			t.Error("a program from PATH was run to decompress a layer")
		}
		return
	}
	s := open(t, t.TempDir())
	defer closeStore(t, s)
	var data bytes.Buffer
	w := gzip.NewWriter(&data)
	if _, err := w.Write(make([]byte, 1024)); err != nil { // an empty archive
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	desc := blob(t, t.Context(), s, data.String())
	desc.MediaType = ocispec.MediaTypeImageLayerGzip
	if _, err := s.Applier().Apply(t.Context(), desc, []mount.Mount{{Type: "bind", Source: t.TempDir(), Options: []string{"rw", "rbind"}}}); err != nil {
		t.Error(err)
	}
}
