package model_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"

	"muelle/internal/compose/model"
)

func TestDeviceRequests(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		want     []container.DeviceRequest
	}{
		{"vendor's name", "devices: ['vendor.com/class=one', 'vendor.com/class=two', '/dev/null:/dev/x']",
			[]container.DeviceRequest{{Driver: "cdi", DeviceIDs: []string{"vendor.com/class=one", "vendor.com/class=two"}}}},
		{"all GPUs", "gpus: all", []container.DeviceRequest{{Count: -1, Capabilities: [][]string{{"gpu"}}}}},
		{"reserved", "deploy: {resources: {reservations: {devices: [{capabilities: [gpu, utility], count: 2, driver: nvidia}]}}}",
			[]container.DeviceRequest{{Driver: "nvidia", Count: 2, Capabilities: [][]string{{"gpu", "utility"}}}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "compose.yaml")
			if err := os.WriteFile(file, []byte("services:\n  a:\n    image: x\n    "+tt.in+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			p, err := model.Load(t.Context(), model.Options{Files: []string{file}})
			if err != nil {
				t.Fatal(err)
			}
			spec, err := model.Spec(p, nil, func(string) {})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, spec.Services[0].HostConfig.DeviceRequests); diff != "" {
				t.Error(diff)
			}
		})
	}
}
