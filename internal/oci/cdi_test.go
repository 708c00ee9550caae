package oci_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"

	"muelle/internal/oci"
)

const vendorSpec = `{
  "cdiVersion": "0.6.0", "kind": "vendor.com/class",
  "devices": [{"name": "one", "containerEdits": {
    "env": ["ONE=1"], "deviceNodes": [{"path": "/dev/one", "hostPath": "/dev/null", "permissions": "rw"}],
    "mounts": [{"hostPath": "/etc", "containerPath": "/vendor", "options": ["ro", "bind"]}]}}],
  "containerEdits": {"env": ["VENDOR=yes"]}
}`

const gpuSpec = `
cdiVersion: 0.5.0
kind: nvidia.com/gpu
devices:
- {name: "0", containerEdits: {env: ["GPU=0"]}}
- {name: "1", containerEdits: {env: ["GPU1=1"]}}
- {name: all, containerEdits: {env: ["GPU=all"]}}
`

func TestCDI(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("vendor.json", vendorSpec)
	gpu := []container.DeviceRequest{{Count: -1, Capabilities: [][]string{{"gpu"}}}}
	named := func(ids ...string) []container.DeviceRequest {
		return []container.DeviceRequest{{Driver: "cdi", DeviceIDs: ids}}
	}
	inject := func(c oci.CDI, r []container.DeviceRequest) (*specs.Spec, error) {
		s := &specs.Spec{Process: &specs.Process{Env: []string{"A=b", "HOME=/root"}}, Linux: &specs.Linux{Resources: &specs.LinuxResources{}}}
		return s, c.Inject(s, r)
	}
	c := oci.CDI{Dirs: []string{dir}}
	s, err := inject(c, named("vendor.com/class=one"))
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"A=b", "ONE=1", "VENDOR=yes", "HOME=/root"}; !slices.Equal(s.Process.Env[:1], want[:1]) || s.Process.Env[len(s.Process.Env)-1] != "HOME=/root" || len(s.Process.Env) != 4 {
		t.Errorf("environment %v, want %v", s.Process.Env, want)
	}
	if len(s.Linux.Devices) != 1 || s.Linux.Devices[0].Path != "/dev/one" || s.Linux.Devices[0].Minor != 3 {
		t.Errorf("devices %+v", s.Linux.Devices)
	}
	if r := s.Linux.Resources.Devices; len(r) != 1 || !r[0].Allow || r[0].Access != "rw" {
		t.Errorf("rules %+v", r)
	}
	if len(s.Mounts) != 1 || s.Mounts[0].Destination != "/vendor" {
		t.Errorf("mounts %+v", s.Mounts)
	}
	for _, tt := range []struct {
		name string
		cdi  oci.CDI
		in   []container.DeviceRequest
		want string
	}{
		{"unknown", c, named("vendor.com/class=two"), "CDI device injection failed: unresolvable CDI devices vendor.com/class=two"},
		{"switched off", oci.CDI{}, named("vendor.com/class=one"), `could not select device driver "cdi" with capabilities: []`},
		{"count", c, []container.DeviceRequest{{Driver: "cdi", Count: 1}}, "unexpected count in CDI device request"},
		{"no GPU", c, gpu, `could not select device driver "" with capabilities: [[gpu]]`},
		{"other driver", c, []container.DeviceRequest{{Driver: "amd", Capabilities: [][]string{{"gpu"}}}}, `could not select device driver "amd"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := inject(tt.cdi, tt.in); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
	write("nvidia.yaml", gpuSpec)
	for _, tt := range []struct {
		in   container.DeviceRequest
		want string
	}{
		{container.DeviceRequest{Count: -1}, "GPU=all"}, {container.DeviceRequest{Count: 1}, "GPU=0"}, {container.DeviceRequest{DeviceIDs: []string{"1"}}, "GPU1=1"},
	} {
		tt.in.Capabilities = [][]string{{"gpu"}}
		if s, err := inject(c, []container.DeviceRequest{tt.in}); err != nil || !slices.Contains(s.Process.Env, tt.want) {
			t.Errorf("%+v: %v, %v", tt.in, s.Process.Env, err)
		}
	}
	if diff := cmp.Diff([]string{"nvidia.com/gpu=0", "nvidia.com/gpu=1", "nvidia.com/gpu=all", "vendor.com/class=one"}, c.Devices()); diff != "" {
		t.Error(diff)
	}
	write("broken.json", "{")
	if _, err := inject(c, named("vendor.com/class=two")); err == nil || !strings.Contains(err.Error(), "broken.json") {
		t.Errorf("an unreadable specification is not named: %v", err)
	}
}

// What is no specification is named, and gives no device. A class of one letter is one:
// an older reader of them ended the program over it.
func TestCDIOfStrangers(t *testing.T) {
	for name, kind := range map[string]string{"one letter": "a.b/c", "no class": "a.b/", "climbing": "a.b/../../c", "no vendor": "/c", "nothing": ""} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			text := "cdiVersion: 0.6.0\nkind: " + kind + "\ndevices: [{name: x, containerEdits: {env: [A=b]}}]\n"
			if err := os.WriteFile(filepath.Join(dir, "x.yaml"), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			c, good := oci.CDI{Dirs: []string{dir}}, name == "one letter"
			if got := c.Devices(); (len(got) == 1) != good {
				t.Errorf("devices %q", got)
			}
			err := c.Inject(&specs.Spec{Process: &specs.Process{}}, []container.DeviceRequest{{Driver: "cdi", DeviceIDs: []string{kind + "=x"}}})
			if good && err == nil {
				return
			}
			if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "x.yaml") {
				t.Errorf("%v", err)
			}
		})
	}
}
