package server_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	containertypes "github.com/moby/moby/api/types/container"
	imagetypes "github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/system"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"muelle/internal/container"
	"muelle/internal/image"
	"muelle/internal/server"
)

type told struct {
	server.System
	created container.CreateOptions
	stopped container.StopOptions
}

func (*told) Info(context.Context) (*system.Info, error) {
	return &system.Info{ID: "i", SecurityOptions: []string{"name=seccomp,profile=builtin"}, FirewallBackend: &system.FirewallInfo{Driver: "nftables"}, RuncCommit: system.Commit{ID: "c"}}, nil
}

type toldContainers struct {
	server.Containers
	t *told
}

func (c toldContainers) List(context.Context, container.ListOptions) ([]containertypes.Summary, error) {
	return []containertypes.Summary{{ID: "c", Health: &containertypes.HealthSummary{}, ImageManifestDescriptor: &ocispec.Descriptor{}}}, nil
}

func (c toldContainers) Inspect(context.Context, string, bool) (*containertypes.InspectResponse, error) {
	return &containertypes.InspectResponse{ID: strings.Repeat("c", 64), Config: &containertypes.Config{Hostname: "h"}, NetworkSettings: &containertypes.NetworkSettings{
		Networks: map[string]*network.EndpointSettings{"mine": {Aliases: []string{"a"}}, "bridge": {}},
	}}, nil
}

func (c toldContainers) Create(_ context.Context, o container.CreateOptions) (containertypes.CreateResponse, error) {
	c.t.created = o
	return containertypes.CreateResponse{ID: "c"}, nil
}

func (c toldContainers) Stop(_ context.Context, _ string, o container.StopOptions) error {
	c.t.stopped = o
	return nil
}

type toldImages struct{ server.Images }

func (toldImages) List(_ context.Context, o image.ListOptions) ([]imagetypes.Summary, error) {
	return []imagetypes.Summary{{ID: strings.Join(o.Filters.Get("reference"), " "), Size: 7, Descriptor: &ocispec.Descriptor{}}}, nil
}

func (toldImages) Inspect(context.Context, string) (*imagetypes.InspectResponse, error) {
	return &imagetypes.InspectResponse{ID: "i", Size: 7, Descriptor: &ocispec.Descriptor{}}, nil
}

// at finds a value by a path of keys; a missing one is the text "missing".
func at(t *testing.T, body string, path string) any {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(body), &v); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	if l, ok := v.([]any); ok && len(l) == 1 {
		v = l[0]
	}
	for k := range strings.SplitSeq(path, ".") {
		m, ok := v.(map[string]any)
		if !ok {
			return "missing"
		}
		if v, ok = m[k]; !ok {
			return "missing"
		}
	}
	return v
}

func TestAnswersByVersion(t *testing.T) {
	w := &told{}
	h := serve(t, server.Options{System: w, Containers: toldContainers{t: w}, Images: toldImages{}})
	for _, tc := range []struct {
		path, field string
		want        any
	}{
		{"/v1.24/info", "SecurityOptions", []any{"seccomp"}},
		{"/v1.25/info", "SecurityOptions", []any{"name=seccomp,profile=builtin"}},
		{"/v1.24/info", "KernelVersion", "<unknown>"},
		{"/v1.48/info", "FirewallBackend", "missing"},
		{"/v1.48/info", "RuncCommit.Expected", "c"},
		{"/v1.48/info", "RuncCommit.ID", "c"},
		{"/v1.49/info", "RuncCommit.Expected", "missing"},
		{"/v1.49/info", "FirewallBackend.Driver", "nftables"},
		{"/v1.49/info", "BridgeNfIptables", false},
		{"/v1.50/info", "BridgeNfIptables", "missing"},
		{"/v1.51/containers/json", "Health", "missing"},
		{"/v1.47/containers/json", "ImageManifestDescriptor", "missing"},
		{"/v1.42/images/json", "RepoTags", []any{"<none>:<none>"}},
		{"/v1.43/images/json", "VirtualSize", 7.0},
		{"/v1.44/images/json", "VirtualSize", "missing"},
		{"/v1.47/images/json", "Descriptor", "missing"},
		{"/v1.50/images/json", "Containers", -1.0},
		{"/v1.40/images/json?filter=bb*", "Id", "bb*"},
		{"/v1.41/images/json?filter=bb*", "Id", ""},
		{"/v1.43/images/i/json", "VirtualSize", 7.0},
		{"/v1.44/images/i/json", "ContainerConfig", map[string]any{}},
		{"/v1.45/images/i/json", "ContainerConfig", "missing"},
		{"/v1.47/images/i/json", "Descriptor", "missing"},
		{"/v1.51/images/i/json", "GraphDriver.Name", "overlayfs"},
		{"/v1.52/images/i/json", "GraphDriver", "missing"},
		{"/v1.44/containers/c/json", "NetworkSettings.Networks.mine.Aliases", []any{"a", "cccccccccccc", "h"}},
		{"/v1.45/containers/c/json", "NetworkSettings.Networks.mine.Aliases", []any{"a"}},
	} {
		_, body := h.do("GET", tc.path, "", "")
		if diff := cmp.Diff(tc.want, at(t, body, tc.field)); diff != "" {
			t.Errorf("%s %s: %s", tc.path, tc.field, diff)
		}
	}
	// What inspect prints keeps its order.
	_, body := h.do("GET", "/v1.44/containers/c/json", "", "")
	if !strings.HasPrefix(body, `{"Id":`) {
		t.Errorf("it begins %.40s", body)
	}
}

func TestRequestsByVersion(t *testing.T) {
	w := &told{}
	h := serve(t, server.Options{Containers: toldContainers{t: w}})
	create := func(version, host string) int {
		res, _ := h.do("POST", "/v"+version+"/containers/create?platform=linux/amd64", "application/json", `{"Image":"i","HostConfig":`+host+`}`)
		return res.StatusCode
	}
	if code := create("1.24", `{"AutoRemove":true,"Annotations":{"a":"b"}}`); code != 201 {
		t.Fatalf("status %d", code)
	}
	if hc := w.created.HostConfig; hc.AutoRemove || hc.Annotations != nil || hc.IpcMode != "shareable" || w.created.Platform != "" {
		t.Errorf("1.24: %+v", w.created)
	}
	if code := create("1.44", `{"AutoRemove":true}`); code != 201 || !w.created.HostConfig.AutoRemove || w.created.HostConfig.IpcMode != "" || w.created.Platform == "" {
		t.Errorf("1.44: %d, %+v", code, w.created)
	}
	for version, want := range map[string]bool{"1.43": true, "1.44": false} {
		if code := create(version, `{"Mounts":[{"Type":"bind","Source":"/a","Target":"/b","ReadOnly":true}]}`); code != 201 {
			t.Fatalf("status %d", code)
		}
		o := w.created.HostConfig.Mounts[0].BindOptions
		if got := o != nil && o.ReadOnlyNonRecursive; got != want {
			t.Errorf("%s: %+v", version, o)
		}
	}
	for version, want := range map[string]int{"1.44": 400, "1.45": 201} {
		if code := create(version, `{"Mounts":[{"Type":"`+string(mount.TypeVolume)+`","Target":"/b","VolumeOptions":{"Subpath":"x"}}]}`); code != want {
			t.Errorf("subpath in %s: %d", version, code)
		}
	}
	for version, want := range map[string]string{"1.41": "", "1.42": "INT"} {
		h.do("POST", "/v"+version+"/containers/c/stop?signal=INT", "", "")
		if w.stopped.Signal != want {
			t.Errorf("%s: signal %q", version, w.stopped.Signal)
		}
	}
}
