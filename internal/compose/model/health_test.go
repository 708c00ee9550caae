package model_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"muelle/api"
	"muelle/internal/compose/model"
)

func TestHealthExtension(t *testing.T) {
	tests := []struct {
		name, in string
		want     map[string]string
		err      string
	}{
		{"short", "{http: ':8080/healthz', interval: 5s, retries: 2, start_period: 1m, on_failure: restart}", map[string]string{
			"http": ":8080/healthz", "interval": "5s", "retries": "2", "start-period": "1m", "on-failure": "restart"}, ""},
		{"port alone", "{tcp: 5432}", map[string]string{"tcp": "5432"}, ""},
		{"long http", "{http: {port: 8443, tls: true, path: healthz, status: [200, 204-206], body: 'a,b', headers: {X-A: b}, host: web}}", map[string]string{
			"http": `https://:8443/healthz,status=200,status=204-206,"body=a,b",host=web,header=X-A: b`}, ""},
		{"long grpc", "{grpc: {port: 50051, service: a.B, address: '::1', tls: true}}", map[string]string{"grpc": "[::1]:50051/a.B,tls=true"}, ""},
		{"unknown", "{http: 80, often: yes}", nil, `service "a": x-health.often: unknown attribute`},
		{"unknown in target", "{http: {port: 80, speed: 1}}", nil, "x-health.http: unknown attribute speed"},
		{"two", "{http: 80, tcp: 80}", nil, "one per container"},
		{"name", "{tcp: 'db:80'}", nil, "resolves no names"},
		{"no port", "{tcp: {address: 127.0.0.1}}", nil, "a port is needed"},
		{"beside a test", "{tcp: 80}\n    healthcheck: {test: [CMD, 'true']}", nil, "there is one per service"},
		{"not a mapping", "80", nil, "x-health must be a mapping"},
	}
	for _, tt := range tests {
		dir := t.TempDir()
		doc := "services:\n  a:\n    image: x\n    x-health: " + tt.in + "\n"
		file := filepath.Join(dir, "compose.yaml")
		if err := os.WriteFile(file, []byte(doc), 0o644); err != nil {
			t.Fatal(err)
		}
		p, err := model.Load(t.Context(), model.Options{Files: []string{file}})
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%s: %v, want %q", tt.name, err, tt.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		spec, err := model.Spec(p, nil, func(string) {})
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		got := map[string]string{}
		for k, v := range spec.Services[0].Config.Labels {
			if rest, ok := strings.CutPrefix(k, api.LabelHealthPrefix); ok {
				got[rest] = v
			}
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: -want +got\n%s", tt.name, diff)
		}
		if spec.Services[0].Config.Labels[api.LabelComposeHealth] == "" {
			t.Errorf("%s: no digest", tt.name)
		}
	}
}
