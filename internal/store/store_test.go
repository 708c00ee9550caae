package store_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"muelle/internal/store"
)

func open(t testing.TB, root string) *store.Store {
	t.Helper()
	s, err := store.Open(context.Background(), root, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func closeStore(t testing.TB, s *store.Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// chain commits n layers and gives the chain ID of the top one. It is not rooted.
func chain(t testing.TB, ctx context.Context, s *store.Store, name string, n int) digest.Digest {
	t.Helper()
	parent := ""
	for i := range n {
		key := fmt.Sprintf("%s-%d", name, i)
		if _, err := s.Snapshotter().Prepare(ctx, key, parent); err != nil {
			t.Fatal(err)
		}
		parent = digest.FromString(key).String()
		if err := s.Snapshotter().Commit(ctx, parent, key); err != nil {
			t.Fatal(err)
		}
	}
	return digest.Digest(parent)
}

func blob(t *testing.T, ctx context.Context, s *store.Store, data string) ocispec.Descriptor {
	t.Helper()
	desc := ocispec.Descriptor{Digest: digest.FromString(data), Size: int64(len(data))}
	if err := content.WriteBlob(ctx, s.Content(), data, strings.NewReader(data), desc); err != nil {
		t.Fatal(err)
	}
	return desc
}

func TestLower(t *testing.T) {
	s := open(t, t.TempDir())
	defer closeStore(t, s)
	top := chain(t, t.Context(), s, "a", 3)
	dirs, err := s.Lower(t.Context(), top)
	if err != nil || len(dirs) != 3 {
		t.Fatalf("lower: %v, %v", dirs, err)
	}
	for _, dir := range dirs {
		if info, err := os.Stat(dir); err != nil || !info.IsDir() || filepath.Base(dir) != "fs" {
			t.Errorf("%s: %v", dir, err)
		}
	}
	base, err := s.Lower(t.Context(), digest.FromString("a-0"))
	if err != nil || base[0] != dirs[2] {
		t.Errorf("the base is not the last: %v, %v", base, dirs)
	}
	if _, err := s.Lower(t.Context(), digest.FromString("nosuch")); !errdefs.IsNotFound(err) {
		t.Errorf("unknown chain: %v", err)
	}
	empty, err := s.Lower(t.Context(), "")
	if err != nil || len(empty) != 1 {
		t.Fatal(empty, err)
	}
	if entries, err := os.ReadDir(empty[0]); err != nil || len(entries) > 0 {
		t.Errorf("no layers: %v, %v", entries, err)
	}
}

func TestCollectorSparesUsedChains(t *testing.T) {
	s := open(t, t.TempDir())
	defer closeStore(t, s)
	used, unused := chain(t, t.Context(), s, "used", 2), chain(t, t.Context(), s, "unused", 2)
	s.Retain(used, "c1")
	s.Retain(used, "c2")
	for _, id := range []digest.Digest{used, unused} {
		if _, err := s.Lower(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	collect(t, s)
	dirs, err := s.Lower(t.Context(), used)
	if err != nil || len(dirs) != 2 {
		t.Errorf("used chain: %v, %v", dirs, err)
	}
	if _, err := s.Lower(t.Context(), unused); !errdefs.IsNotFound(err) {
		t.Errorf("unused chain: %v", err)
	}
	s.ReleaseChain("c1")
	collect(t, s)
	if _, err := s.Lower(t.Context(), used); err != nil {
		t.Errorf("chain with one user left: %v", err)
	}
	s.ReleaseChain("c2")
	collect(t, s)
	if _, err := s.Lower(t.Context(), used); !errdefs.IsNotFound(err) {
		t.Errorf("released chain: %v", err)
	}
	for _, dir := range dirs {
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is left: %v", dir, err)
		}
	}
}

func collect(t *testing.T, s *store.Store) {
	t.Helper()
	if err := s.CollectGarbage(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// A chain that was retained and then found must stay, however the collector runs
// in between.
func TestRetainRacesCollector(t *testing.T) {
	s := open(t, t.TempDir())
	defer closeStore(t, s)
	var work sync.WaitGroup
	for i := range 4 {
		work.Go(func() {
			for j := range 8 {
				user := fmt.Sprintf("u%d-%d", i, j)
				ctx, release, err := s.WithLease(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				id := chain(t, ctx, s, user, 2)
				if err := release(); err != nil {
					t.Error(err)
					return
				}
				s.Retain(id, user)
				dirs, err := s.Lower(t.Context(), id)
				if errdefs.IsNotFound(err) {
					continue // collected before it was retained
				}
				if err != nil {
					t.Error(err)
					return
				}
				collect(t, s)
				if _, err := os.Stat(dirs[0]); err != nil {
					t.Error(err)
				}
				s.ReleaseChain(user)
			}
		})
	}
	work.Wait()
}

func TestLease(t *testing.T) {
	s := open(t, t.TempDir())
	defer closeStore(t, s)
	ctx, release, err := s.WithLease(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	desc := blob(t, ctx, s, "held")
	collect(t, s)
	if _, err := s.Content().Info(t.Context(), desc.Digest); err != nil {
		t.Errorf("leased blob: %v", err)
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	collect(t, s)
	if _, err := s.Content().Info(t.Context(), desc.Digest); !errdefs.IsNotFound(err) {
		t.Errorf("released blob: %v", err)
	}
}

func TestImageCallbacks(t *testing.T) {
	s := open(t, t.TempDir())
	defer closeStore(t, s)
	var seen []string
	s.OnImageChange(func(name string) { seen = append(seen, "changed "+name) })
	s.OnImageReplace(func(_ context.Context, old, target images.Image) error {
		seen = append(seen, fmt.Sprintf("replace %s %d by %d", old.Name, old.Target.Size, target.Target.Size))
		return nil
	})
	one, two := blob(t, t.Context(), s, "1"), blob(t, t.Context(), s, "22")
	for _, desc := range []*ocispec.Descriptor{&one, &two} {
		desc.MediaType = ocispec.MediaTypeImageManifest
	}
	if _, err := s.Images().Create(t.Context(), images.Image{Name: "x", Target: one}); err != nil {
		t.Fatal(err)
	}
	for _, desc := range []ocispec.Descriptor{one, two} {
		if _, err := s.Images().Update(t.Context(), images.Image{Name: "x", Target: desc}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Images().Delete(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	want := []string{"changed x", "changed x", "replace x 1 by 2", "changed x", "changed x"}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Error(diff)
	}
}

func TestOpenTwice(t *testing.T) {
	root := t.TempDir()
	s := open(t, root)
	defer closeStore(t, s)
	if again, err := store.Open(t.Context(), root, nil); err == nil {
		closeStore(t, again)
		t.Error("opened twice")
	} else if !strings.Contains(err.Error(), "in use by another daemon") {
		t.Error(err)
	}
}

func TestCrashIsCleanedUp(t *testing.T) {
	root := t.TempDir()
	s := open(t, root)
	kept := chain(t, t.Context(), s, "kept", 1)
	ctx, _, err := s.WithLease(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	pulling := blob(t, ctx, s, "pulling")
	closeStore(t, s)
	// What a crash leaves: the marker, and files that no metadata knows.
	lostSnapshot := filepath.Join(root, "snapshots", "snapshots", "new-4711")
	lostBlob := filepath.Join(root, "content", "blobs", "sha256", digest.FromString("lost").Encoded())
	for _, dir := range []string{lostSnapshot, filepath.Dir(lostBlob)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{lostBlob, filepath.Join(root, "open")} {
		if err := os.WriteFile(file, []byte("lost"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s = open(t, root)
	defer closeStore(t, s)
	s.Retain(kept, "c1")
	collect(t, s)
	for _, file := range []string{lostSnapshot, lostBlob} {
		if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is left: %v", file, err)
		}
	}
	if _, err := s.Content().Info(t.Context(), pulling.Digest); !errdefs.IsNotFound(err) {
		t.Errorf("blob of a transfer that the crash ended: %v", err)
	}
	if _, err := s.Lower(t.Context(), kept); err != nil {
		t.Error(err)
	}
	if err := s.Snapshotter().Walk(t.Context(), func(_ context.Context, info snapshots.Info) error {
		if info.Name != kept.String() {
			t.Errorf("snapshot %s is left", info.Name)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

func BenchmarkOpen(b *testing.B) {
	root := b.TempDir()
	for b.Loop() {
		closeStore(b, open(b, root))
	}
}

func BenchmarkLower(b *testing.B) {
	s := open(b, b.TempDir())
	defer closeStore(b, s)
	id := chain(b, b.Context(), s, "a", 5)
	for b.Loop() {
		s.Retain(id, "c1")
		if _, err := s.Lower(context.Background(), id); err != nil {
			b.Fatal(err)
		}
		s.ReleaseChain("c1")
	}
}
