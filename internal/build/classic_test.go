package build_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/client"
	gatewayapi "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/opencontainers/go-digest"

	"muelle/internal/build"
	"muelle/internal/filter"
	"muelle/internal/runtime"
)

func TestRequestAttributes(t *testing.T) {
	value := "1"
	for _, tc := range []struct {
		name string
		in   build.Request
		want map[string]string
	}{
		{"nothing", build.Request{}, map[string]string{}},
		{"file and target", build.Request{Dockerfile: "a/Dockerfile.x", Target: "t"}, map[string]string{"filename": "a/Dockerfile.x", "target": "t"}},
		{"args", build.Request{BuildArgs: map[string]*string{"A": &value, "B": nil}}, map[string]string{"build-arg:A": "1"}},
		{"no cache, pull", build.Request{NoCache: true, Pull: true}, map[string]string{"no-cache": "", "image-resolve-mode": "pull"}},
		{"labels", build.Request{Labels: map[string]string{"a": "b=c"}}, map[string]string{"label:a": "b=c"}},
		{"network", build.Request{NetworkMode: "none"}, map[string]string{"force-network-mode": "none"}},
		{"default network", build.Request{NetworkMode: "default"}, map[string]string{}},
		{"hosts", build.Request{ExtraHosts: []string{"a:1.2.3.4", "b:::1"}}, map[string]string{"add-hosts": "a=1.2.3.4,b=::1"}},
		{
			"limits", build.Request{Memory: 5, CPUShares: 2, CPUSetCPUs: "0", ShmSize: 64, Ulimits: []build.Ulimit{{Name: "nofile", Soft: 1, Hard: 2}}},
			map[string]string{"memory": "5", "cpushares": "2", "cpusetcpus": "0", "shm-size": "64", "ulimit": "nofile=1:2"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, tc.in.Attributes()); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestRequestCheck(t *testing.T) {
	for _, tc := range []struct {
		name string
		in   build.Request
		is   func(error) bool
	}{
		{"plain", build.Request{Tags: []string{"a", "b/c:1"}}, func(err error) bool { return err == nil }},
		{"remote", build.Request{Remote: "https://x/y.git"}, errdefs.IsNotImplemented},
		{"squash", build.Request{Squash: true}, errdefs.IsNotImplemented},
		{"security", build.Request{SecurityOpt: []string{"seccomp=x"}}, errdefs.IsNotImplemented},
		{"network", build.Request{NetworkMode: "mine"}, errdefs.IsNotImplemented},
		{"tag", build.Request{Tags: []string{"UPPER"}}, errdefs.IsInvalidArgument},
		{"digest", build.Request{Tags: []string{"a@" + chain}}, errdefs.IsInvalidArgument},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if err := tc.in.Check(); !tc.is(err) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestStoreAttributes(t *testing.T) {
	dangling := map[string]string{"unpack": "true", "dangling-name-prefix": "moby-dangling", "danging-name-empty-only": "true"}
	with := func(more map[string]string) map[string]string {
		out := map[string]string{}
		for _, m := range []map[string]string{dangling, more} {
			for k, v := range m {
				out[k] = v
			}
		}
		return out
	}
	for _, tc := range []struct {
		name string
		in   map[string]string
		want map[string]string
	}{
		{"no name", nil, with(map[string]string{"name": ""})},
		{"names", map[string]string{"name": "x, y:1,x:latest"}, with(map[string]string{"name": "docker.io/library/x:latest,docker.io/library/y:1"})},
		{"kept", map[string]string{"name": "h:5000/x", "unpack": "false"}, with(map[string]string{"name": "h:5000/x:latest", "unpack": "false"})},
		{"not stored", map[string]string{"name": "x", "store": "false"}, map[string]string{"name": "docker.io/library/x:latest", "store": "false"}},
		{"frontend's", map[string]string{"name": "*"}, with(map[string]string{"name": "*"})},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := build.StoreAttributes(tc.in)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
	if _, err := build.StoreAttributes(map[string]string{"name": "a,B"}); err == nil {
		t.Error("an invalid name was accepted")
	}
}

func TestBuildFailure(t *testing.T) {
	exit := fmt.Errorf("failed to solve: process \"/bin/sh -c exit 3\" did not complete successfully: %w", &gatewayapi.ExitError{ExitCode: 3})
	cancelled, cancel := context.WithCancelCause(context.Background())
	cancel(errors.New("enough"))
	for _, tc := range []struct {
		name string
		ctx  context.Context
		in   error
		want *jsonstream.Error
	}{
		{"command", context.Background(), exit, &jsonstream.Error{Code: 3, Message: "The command '/bin/sh -c exit 3' returned a non-zero code: 3"}},
		{"other", context.Background(), errors.New("failed to solve: x: not found"), &jsonstream.Error{Message: "x: not found"}},
		{"cancelled", cancelled, exit, &jsonstream.Error{Message: "build cancelled: enough"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := new(jsonstream.Error)
			if !errors.As(build.BuildFailure(tc.ctx, tc.in), &got) {
				t.Fatal("not a stream's error")
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestExitFailure(t *testing.T) {
	for _, tc := range []struct {
		name  string
		exit  runtime.Exit
		valid []int
		code  uint32
		ok    bool
	}{
		{"zero", runtime.Exit{}, nil, 0, true},
		{"one", runtime.Exit{Code: 1}, nil, 1, false},
		{"allowed", runtime.Exit{Code: 5}, []int{5}, 0, true},
		{"zero not allowed", runtime.Exit{}, []int{5}, 0, false},
		{"killed", runtime.Exit{Code: 137, OOMKilled: true}, nil, 137, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := build.ExitFailure(context.Background(), tc.exit, tc.valid)
			if tc.ok != (err == nil) {
				t.Fatalf("got %v", err)
			}
			exit := new(gatewayapi.ExitError)
			if err != nil && (!errors.As(err, &exit) || exit.ExitCode != tc.code) {
				t.Errorf("got %v, want exit code %d", err, tc.code)
			}
		})
	}
}

func TestSteps(t *testing.T) {
	now := time.Now()
	vertex := func(name string, cached bool) *client.SolveStatus {
		return &client.SolveStatus{Vertexes: []*client.Vertex{{Digest: digest.FromString(name), Name: name, Started: &now, Cached: cached}}}
	}
	log := func(text string) *client.SolveStatus {
		return &client.SolveStatus{Logs: []*client.VertexLog{{Data: []byte(text)}}}
	}
	for _, tc := range []struct {
		name, dockerfile string
		quiet            bool
		updates          []*client.SolveStatus
		want             string
	}{
		{
			"one stage", "FROM a\nENV x=y\nRUN echo hi\nCMD [\"z\"]\n", false,
			[]*client.SolveStatus{vertex("[internal] load build definition", false), vertex("[1/2] FROM docker.io/library/a", true), vertex("[2/2] RUN echo hi", false), log("hi\n")},
			"Step 1/4 : FROM a\nStep 2/4 : ENV x=y\nStep 3/4 : RUN echo hi\nhi\nStep 4/4 : CMD [\"z\"]\n",
		},
		{
			"stages", "FROM a AS b\nRUN make\nFROM scratch\nCOPY --from=b /x /\n", false,
			[]*client.SolveStatus{vertex("[b 1/2] FROM a", false), vertex("[b 2/2] RUN make", true), vertex("[stage-1 1/1] COPY --from=b /x /", true)},
			"Step 1/4 : FROM a AS b\nStep 2/4 : RUN make\n ---> Using cache\nStep 3/4 : FROM scratch\nStep 4/4 : COPY --from=b /x /\n ---> Using cache\n",
		},
		{"quiet", "FROM a\nRUN x\n", true, []*client.SolveStatus{vertex("[1/2] FROM a", false), log("noise")}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(tc.dockerfile), 0o644); err != nil {
				t.Fatal(err)
			}
			got, err := build.Steps(dir, build.Request{Quiet: tc.quiet}, tc.updates)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestStepsErrors(t *testing.T) {
	for _, tc := range []struct{ name, dockerfile, want string }{
		{"unknown instruction", "FROM a\nFOO b\n", "dockerfile parse error"},
		{"empty", "", "dockerfile parse error"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(tc.dockerfile), 0o644); err != nil {
				t.Fatal(err)
			}
			_, err := build.Steps(dir, build.Request{}, nil)
			if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v", err)
			}
		})
	}
	_, err := build.Steps(t.TempDir(), build.Request{Dockerfile: "../x"}, nil)
	if !errdefs.IsInvalidArgument(err) || err.Error() != "Cannot locate specified Dockerfile: ../x" {
		t.Errorf("outside: got %v", err)
	}
}

type entry struct {
	name, link, content string
	kind                byte
}

func archiveOf(t *testing.T, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		if e.kind == 0 {
			e.kind = tar.TypeReg
		}
		h := &tar.Header{Name: e.name, Linkname: e.link, Typeflag: e.kind, Mode: 0o755, Size: int64(len(e.content)), ModTime: time.Unix(1, 0)}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(e.content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestExtractContext(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ctx")
	plain := archiveOf(t,
		entry{name: "./", kind: tar.TypeDir}, entry{name: "Dockerfile", content: "FROM x"}, entry{name: "d/e/f", content: "1"},
		entry{name: "l", link: "Dockerfile", kind: tar.TypeSymlink}, entry{name: "h", link: "d/e/f", kind: tar.TypeLink},
		entry{name: "d/e/f", content: "2"}, entry{name: "/abs", content: "a"})
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if err := build.ExtractContext(context.Background(), &packed, dir, 100, 1000); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"Dockerfile": "FROM x", "d/e/f": "2", "l": "FROM x", "h": "1", "abs": "a"} {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || string(got) != want {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
	st, err := os.Stat(filepath.Join(dir, "Dockerfile"))
	if err != nil || st.Mode().Perm() != 0o755 || !st.ModTime().Equal(time.Unix(1, 0)) {
		t.Errorf("mode and time: %v %v", st, err)
	}
}

func TestExtractContextAttacks(t *testing.T) {
	for _, tc := range []struct {
		name    string
		entries []entry
	}{
		{"through a link", []entry{{name: "x", link: "../..", kind: tar.TypeSymlink}, {name: "x/evil", content: "1"}}},
		{"through an absolute link", []entry{{name: "x", link: "/", kind: tar.TypeSymlink}, {name: "x/evil", content: "1"}}},
		{"hard link to outside", []entry{{name: "s", link: "/", kind: tar.TypeSymlink}, {name: "h", link: "s/etc/passwd", kind: tar.TypeLink}}},
		{"device", []entry{{name: "d", kind: tar.TypeChar}}},
		{"too many", []entry{{name: "a"}, {name: "b"}, {name: "c"}, {name: "d"}, {name: "e"}}},
		{"too large", []entry{{name: "a", content: strings.Repeat("x", 101)}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			parent := t.TempDir()
			err := build.ExtractContext(context.Background(), bytes.NewReader(archiveOf(t, tc.entries...)), filepath.Join(parent, "a", "ctx"), 4, 100)
			if !errdefs.IsInvalidArgument(err) {
				t.Errorf("got %v", err)
			}
			if _, err := os.Lstat(filepath.Join(parent, "evil")); err == nil {
				t.Error("wrote outside")
			}
			if _, err := os.Lstat("/evil"); err == nil {
				t.Error("wrote outside")
			}
		})
	}
	for _, garbage := range []string{"", "no archive", "\x1f\x8bno"} {
		err := build.ExtractContext(context.Background(), strings.NewReader(garbage), filepath.Join(t.TempDir(), "c"), 4, 100)
		if err != nil && !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %v", garbage, err)
		}
	}
	// A name that climbs stays inside.
	dir := filepath.Join(t.TempDir(), "c")
	if err := build.ExtractContext(context.Background(), bytes.NewReader(archiveOf(t, entry{name: "../../up", content: "1"})), dir, 4, 100); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "up")); err != nil {
		t.Error(err)
	}
}

func TestPruneInfo(t *testing.T) {
	now := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	for _, tc := range []struct {
		name string
		in   build.PruneOptions
		want client.PruneInfo
		ok   bool
	}{
		{"nothing", build.PruneOptions{}, client.PruneInfo{}, true},
		{"all, bounded", build.PruneOptions{All: true, ReservedSpace: 5}, client.PruneInfo{All: true, ReservedSpace: 5}, true},
		{"until duration", build.PruneOptions{Filters: filter.Args{"until": {"24h"}}}, client.PruneInfo{KeepDuration: 24 * time.Hour}, true},
		{"until time", build.PruneOptions{Filters: filter.Args{"until": {"2026-01-01T00:00:00Z"}}}, client.PruneInfo{KeepDuration: 24 * time.Hour}, true},
		{"fields", build.PruneOptions{Filters: filter.Args{"id": {"x"}, "type": {"exec.cachemount"}, "shared": {"true"}}}, client.PruneInfo{Filter: []string{"id~=x,type==exec.cachemount,shared"}}, true},
		{"unknown", build.PruneOptions{Filters: filter.Args{"label": {"x"}}}, client.PruneInfo{}, false},
		{"bad time", build.PruneOptions{Filters: filter.Args{"until": {"x"}}}, client.PruneInfo{}, false},
		{"two times", build.PruneOptions{Filters: filter.Args{"until": {"1h"}, "unused-for": {"2h"}}}, client.PruneInfo{}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := build.PruneInfo(tc.in, now)
			if tc.ok != (err == nil) {
				t.Fatalf("got %v", err)
			}
			if err != nil {
				if !errdefs.IsInvalidArgument(err) {
					t.Errorf("class of %v", err)
				}
				return
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}
