package buildclient_test

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"muelle/internal/buildclient"
)

// folder makes a context.
func folder(t *testing.T, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, f := range files {
		path := filepath.Join(dir, f)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("FROM scratch\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestAttributes(t *testing.T) {
	dir := folder(t, "Dockerfile", "sub/Other")
	other := folder(t)
	for _, tc := range []struct {
		name string
		in   buildclient.Options
		want map[string]string
	}{
		{"nothing", buildclient.Options{}, map[string]string{"image-resolve-mode": "local", "filename": "Dockerfile"}},
		{"pull", buildclient.Options{Pull: true}, map[string]string{"image-resolve-mode": "pull", "filename": "Dockerfile"}},
		{"no cache", buildclient.Options{NoCache: true}, map[string]string{"image-resolve-mode": "local", "filename": "Dockerfile", "no-cache": ""}},
		{"no cache of stages", buildclient.Options{NoCacheFilter: []string{"a", "b"}}, map[string]string{"image-resolve-mode": "local", "filename": "Dockerfile", "no-cache": "a,b"}},
		{
			"args, labels, target", buildclient.Options{Args: map[string]string{"A": "1"}, Labels: map[string]string{"l": ""}, Target: "t"},
			map[string]string{"image-resolve-mode": "local", "filename": "Dockerfile", "build-arg:A": "1", "label:l": "", "target": "t"},
		},
		{"file in the context", buildclient.Options{Dockerfile: "sub/Other"}, map[string]string{"image-resolve-mode": "local", "filename": "Other"}},
		{"hosts", buildclient.Options{ExtraHosts: []string{"a:1.2.3.4", "b=::1", "c:[::2]"}}, map[string]string{"image-resolve-mode": "local", "filename": "Dockerfile", "add-hosts": "a=1.2.3.4,b=::1,c=::2"}},
		{"network", buildclient.Options{Network: "host"}, map[string]string{"image-resolve-mode": "local", "filename": "Dockerfile", "force-network-mode": "host"}},
		{
			"contexts", buildclient.Options{Contexts: map[string]string{"img": "docker-image://busybox", "Dir": other}},
			map[string]string{"image-resolve-mode": "local", "filename": "Dockerfile", "context:img": "docker-image://busybox", "context:dir": "local:Dir"},
		},
		{
			"attestations", buildclient.Options{Attests: []string{"type=provenance,mode=max", "type=sbom,disabled=true"}},
			map[string]string{"image-resolve-mode": "local", "filename": "Dockerfile", "attest:provenance": "mode=max"},
		},
		{"limits", buildclient.Options{ShmSize: 5, Memory: 6, Ulimits: []string{"nofile=1:2"}}, map[string]string{"image-resolve-mode": "local", "filename": "Dockerfile", "shm-size": "5", "memory": "6", "ulimit": "nofile=1:2"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.in.ContextDir = dir
			got, err := buildclient.PlanOf(tc.in)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got.Attrs); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestExports(t *testing.T) {
	dir := folder(t, "Dockerfile")
	out := filepath.Join(t.TempDir(), "f.tar")
	for _, tc := range []struct {
		name    string
		outputs []string
		want    string
	}{
		{"default", nil, "moby map[name:a,b:1]"},
		{"load", []string{"type=docker"}, "moby map[name:a,b:1]"},
		{"folder", []string{"out"}, "local map[]out"},
		{"local", []string{"type=local,dest=out"}, "local map[]out"},
		{"tar to standard output", []string{"-"}, "tar map[]"},
		{"oci", []string{"type=oci,dest=" + out}, "oci map[name:a,b:1]"},
		{"docker archive", []string{"type=docker,dest=" + out}, "docker map[name:a,b:1]"},
		{"image", []string{"type=image,name=c,push=true"}, "image map[name:c push:true]"},
		{"registry", []string{"type=registry"}, "image map[name:a,b:1 push:true]"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := buildclient.PlanOf(buildclient.Options{ContextDir: dir, Tags: []string{"a", "b:1"}, Outputs: tc.outputs, Stdout: io.Discard})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{tc.want}, got.Exports); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestErrors(t *testing.T) {
	dir := folder(t, "Dockerfile")
	empty := folder(t)
	for _, tc := range []struct {
		name string
		in   buildclient.Options
		want string
	}{
		{"no context", buildclient.Options{}, "no build context was given"},
		{"missing folder", buildclient.Options{ContextDir: empty + "/x"}, "unable to prepare context: path \"" + empty + "/x\" not found"},
		{"a file", buildclient.Options{ContextDir: dir + "/Dockerfile"}, "is not a directory"},
		{"no Dockerfile", buildclient.Options{ContextDir: empty}, "failed to read dockerfile: open " + empty + "/Dockerfile: no such file or directory"},
		{"network", buildclient.Options{ContextDir: dir, Network: "mine"}, "network mode \"mine\" not supported by buildkit"},
		{"host", buildclient.Options{ContextDir: dir, ExtraHosts: []string{"x"}}, "bad format for add-host"},
		{"address", buildclient.Options{ContextDir: dir, ExtraHosts: []string{"x:y"}}, "invalid IP address in add-host"},
		{"output", buildclient.Options{ContextDir: dir, Outputs: []string{"type=what"}}, "unknown output type"},
		{"output without type", buildclient.Options{ContextDir: dir, Outputs: []string{"dest=x"}}, "type required"},
		{"push without name", buildclient.Options{ContextDir: dir, Outputs: []string{"type=registry"}}, "tag is needed"},
		{"secret", buildclient.Options{ContextDir: dir, Secrets: []buildclient.Secret{{ID: "a", Source: empty + "/x"}}}, "no such file"},
		{"both from stdin", buildclient.Options{ContextDir: "-", Dockerfile: "-", ContextReader: strings.NewReader("x")}, "can't use stdin for both"},
		{"empty stdin", buildclient.Options{ContextDir: "-", ContextReader: strings.NewReader("")}, "empty stdin"},
		{"context", buildclient.Options{ContextDir: dir, Contexts: map[string]string{"a": empty + "/x"}}, "failed to get build context a"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := buildclient.PlanOf(tc.in)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

func TestStdin(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: "Dockerfile", Mode: 0o644, Format: tar.FormatUSTAR}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name   string
		in     io.Reader
		remote bool
	}{
		{"Dockerfile", strings.NewReader("FROM scratch\n"), false},
		{"tar", &b, true},
		{"gzip", strings.NewReader("\x1f\x8b\x08rest"), true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := buildclient.PlanOf(buildclient.Options{ContextDir: "-", ContextReader: tc.in})
			if err != nil {
				t.Fatal(err)
			}
			if remote := strings.HasPrefix(got.Attrs["context"], "http://buildkit-session/"); remote != tc.remote {
				t.Errorf("context %q", got.Attrs["context"])
			}
			if mounted := slices.Contains(got.Mounts, "dockerfile"); mounted == tc.remote {
				t.Errorf("mounts %v", got.Mounts)
			}
		})
	}
}

func TestPrefix(t *testing.T) {
	for _, tc := range []struct{ prefix, in, want string }{
		{"", "[1/2] FROM a", "[1/2] FROM a"},
		{"web", "[1/2] FROM a", "[web 1/2] FROM a"},
		{"web", "[internal] load build context", "[web internal] load build context"},
		{"web", "exporting to image", "[web] exporting to image"},
	} {
		if got := buildclient.Prefixed(tc.prefix, tc.in); got != tc.want {
			t.Errorf("%q: got %q, want %q", tc.in, got, tc.want)
		}
	}
}

func TestProgressMode(t *testing.T) {
	if _, err := buildclient.NewProgress(io.Discard, "fancy"); err == nil {
		t.Error("an unknown mode was accepted")
	}
	for _, mode := range []string{"", "auto", "plain", "quiet", "rawjson"} {
		p, err := buildclient.NewProgress(io.Discard, mode)
		if err != nil {
			t.Fatalf("%q: %v", mode, err)
		}
		if err := p.Close(); err != nil {
			t.Errorf("%q: %v", mode, err)
		}
	}
	var none *buildclient.Progress
	if err := none.Close(); err != nil {
		t.Error(err)
	}
}
