package build_test

import (
	"context"
	"testing"

	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/snapshot"
	"github.com/opencontainers/go-digest"

	"muelle/internal/build"
)

const chain = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

// recorder is a snapshotter that notes the names it is called with.
type recorder struct {
	snapshots.Snapshotter
	names []string
}

func (r *recorder) note(names ...string) { r.names = append(r.names, names...) }

func (r *recorder) Stat(_ context.Context, key string) (snapshots.Info, error) {
	r.note(key)
	return snapshots.Info{Name: key, Parent: chain}, nil
}

func (r *recorder) Prepare(_ context.Context, key, parent string, _ ...snapshots.Opt) ([]mount.Mount, error) {
	r.note(key, parent)
	return nil, nil
}

func (r *recorder) Commit(_ context.Context, name, key string, _ ...snapshots.Opt) error {
	r.note(name, key)
	return nil
}

func (r *recorder) Walk(ctx context.Context, fn snapshots.WalkFunc, _ ...string) error {
	return fn(ctx, snapshots.Info{Name: chain, Parent: "random"})
}

// BuildKit's name of a layer must be the store's chain id, or every base image is
// unpacked twice. This fails when an update of BuildKit changes its names.
func TestSnapshotNames(t *testing.T) {
	ctx := context.Background()
	layer := snapshot.LayerSnapshotID(digest.Digest(chain))
	r := &recorder{}
	s := build.NamedSnapshots(r)

	info, err := s.Stat(ctx, layer)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(snapshots.Info{Name: layer, Parent: layer}, info); diff != "" {
		t.Errorf("Stat: -want +got\n%s", diff)
	}
	if _, err := s.Prepare(ctx, "extract-1", layer); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Prepare(ctx, layer+"-view", ""); err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(ctx, layer, "extract-1"); err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(ctx, chain, "extract-2"); err != nil {
		t.Fatal(err)
	}
	want := []string{chain, "extract-1", chain, layer + "-view", "", chain, "extract-1", chain, "extract-2"}
	if diff := cmp.Diff(want, r.names); diff != "" {
		t.Errorf("names: -want +got\n%s", diff)
	}
	err = s.Walk(ctx, func(_ context.Context, info snapshots.Info) error {
		if info.Name != layer || info.Parent != "random" {
			t.Errorf("Walk: got %q on %q", info.Name, info.Parent)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

type leaseRecorder struct {
	leases.Manager
	added []leases.Resource
}

func (l *leaseRecorder) AddResource(_ context.Context, _ leases.Lease, r leases.Resource) error {
	l.added = append(l.added, r)
	return nil
}

func (l *leaseRecorder) ListResources(context.Context, leases.Lease) ([]leases.Resource, error) {
	return append([]leases.Resource(nil), l.added...), nil
}

func TestLeaseNames(t *testing.T) {
	ctx := context.Background()
	given := []leases.Resource{
		{ID: snapshot.LayerSnapshotID(digest.Digest(chain)), Type: "snapshots/overlayfs"},
		{ID: chain, Type: "content"},
		{ID: "random", Type: "snapshots/overlayfs"},
	}
	r := &leaseRecorder{}
	l := build.NamedLeases(r)
	for _, x := range given {
		if err := l.AddResource(ctx, leases.Lease{ID: "l"}, x); err != nil {
			t.Fatal(err)
		}
	}
	if got := r.added[0].ID; got != chain {
		t.Errorf("lease holds %q, want %q", got, chain)
	}
	got, err := l.ListResources(ctx, leases.Lease{ID: "l"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(given, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestBuiltinSyntax(t *testing.T) {
	for _, tc := range []struct {
		image string
		want  bool
	}{
		{"docker/dockerfile:1", true},
		{"docker/dockerfile", true},
		{"docker.io/docker/dockerfile:latest", true},
		{"docker/dockerfile:1.4", true},
		{"docker/dockerfile:1.4.2", true},
		{"docker/dockerfile:1.27", true},
		{"docker/dockerfile:1.28", false},
		{"docker/dockerfile:2", false},
		{"docker/dockerfile:0.9", false},
		{"docker/dockerfile:1-labs", false},
		{"docker/dockerfile:1.4-labs", false},
		{"docker/dockerfile:1@" + chain, false},
		{"docker/dockerfile-upstream:master", false},
		{"me/dockerfile:1", false},
		{"", false},
	} {
		if got := build.BuiltinSyntax(tc.image, "1.27.0-dev"); got != tc.want {
			t.Errorf("%q: got %v", tc.image, got)
		}
	}
}
