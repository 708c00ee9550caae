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

func TestZones(t *testing.T) {
	dir := t.TempDir()
	doc := `x-expect: ["a -> b:80", "host !-> b:80"]
services: {a: {image: x, networks: [n]}, b: {image: y, networks: [n]}}
networks: {n: {x-zone: {publish: none, egress: [API.example.org, 10.0.0.0/8], between: allow}}}
`
	plain := strings.Replace(doc, "x-zone: {publish: none, egress: [API.example.org, 10.0.0.0/8], between: allow}", "", 1)
	hashes := map[string]bool{}
	for _, doc := range []string{doc, strings.Replace(plain, `, "host !-> b:80"`, "", 1)} {
		if err := os.WriteFile(filepath.Join(dir, "compose.yaml"), []byte(doc), 0o644); err != nil {
			t.Fatal(err)
		}
		p, warnings := load(t, dir, model.Options{})
		if len(warnings) > 0 {
			t.Errorf("warnings %q", warnings)
		}
		spec, err := model.Spec(p, nil, func(string) {})
		if err != nil {
			t.Fatal(err)
		}
		hashes[spec.Networks[0].ConfigHash] = true
		if spec.Networks[0].Zone == nil {
			continue
		}
		want := &api.Zone{Publish: "none", Egress: []string{"api.example.org", "10.0.0.0/8"}, Between: "allow"}
		if diff := cmp.Diff(want, spec.Networks[0].Zone); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]string{"a -> b:80", "host !-> b:80"}, spec.Expect); diff != "" {
			t.Error(diff)
		}
	}
	if len(hashes) != 1 {
		t.Error("a zone changes the network's hash, which is Docker Compose's")
	}
}

func TestZoneErrors(t *testing.T) {
	const services = "services: {a: {image: x, ports: ['80:80'], networks: [n]}}\n"
	for _, tt := range []struct{ name, in, want string }{
		{"unknown key", services + "networks:\n  n:\n    x-zone: {publsh: host}\n", `FILE:4: network n: x-zone: unknown key "publsh" (did you mean publish?): a zone has publish, egress and between`},
		{"misspelt", services + "networks:\n  n:\n    x-zoen: {publish: host}\n", `FILE:4: network n: unknown key "x-zoen" (did you mean x-zone?)`},
		{"misspelt sentences", "x-expected: [a !-> internet]\n" + services + "networks: {n: {}}\n", `FILE:1: unknown key "x-expected" (did you mean x-expect?)`},
		{"value", services + "networks:\n  n:\n    x-zone: {publish: world}\n", `FILE:4: network n: x-zone: publish: "world" is none of none, host, lan, any`},
		{"no word", services + "networks: {n: {x-zone: {between: false}}}\n", `FILE:2: network n: x-zone: between: false is not a word`},
		{"no map", services + "networks: {n: {x-zone: host}}\n", `FILE:2: network n: x-zone: it must be a map with publish, egress or between`},
		{"internal", services + "networks: {n: {internal: true, x-zone: {publish: any}}}\n", `FILE:2: network n: x-zone: publish: an internal network publishes to this host at most; write host, or take internal away and close the way out by egress: none`},
		{"external", services + "networks: {n: {external: true, x-zone: {publish: any}}}\n", `FILE:2: network n: it is external: its zone is given where it is made (muelle network create --zone …)`},
		{"nothing published", services + "networks: {n: {x-zone: {publish: none}}}\n", `service a publishes 80/tcp, but every network of it publishes nothing (n): allow it on one (x-zone: {publish: host}), or take ports away`},
		{"expect", "x-expect: ['b -> a']\n" + services + "networks: {n: }\n", `FILE:1: x-expect: "b -> a": there is no service "b" (did you mean a?)`},
		{"violated", "x-expect: ['lan !-> a:80']\n" + services + "networks: {n: }\n", "FILE:1: x-expect does not hold:\n  lan !-> a:80: must not be reached and is: n publishes it on 0.0.0.0:80"},
		{"no list", "x-expect: a\n" + services + "networks: {n: }\n", `FILE:1: x-expect: it must be a list of sentences such as 'cliente -> app:5000'`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "compose.yaml")
			if err := os.WriteFile(file, []byte(tt.in), 0o644); err != nil {
				t.Fatal(err)
			}
			_, err := model.Load(t.Context(), model.Options{Files: []string{file}})
			if want := strings.ReplaceAll(tt.want, "FILE", file); err == nil || err.Error() != want {
				t.Errorf("error %v\nwant  %s", err, want)
			}
		})
	}
}
