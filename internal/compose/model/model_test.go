package model_test

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/google/go-cmp/cmp"

	"muelle/api"
	"muelle/internal/compose/model"
)

var update = flag.Bool("update", false, "write golden files")

func load(t *testing.T, dir string, o model.Options) (*types.Project, []string) {
	t.Helper()
	t.Chdir(dir)
	t.Setenv("FROM_SHELL", "shell")
	var warnings []string
	o.Warn = func(s string) { warnings = append(warnings, s) }
	p, err := model.Load(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return p, warnings
}

// The hashes were computed by Docker Compose 5.5.1: docker compose … config --hash '*'.
func TestServiceHash(t *testing.T) {
	tests := []struct {
		name string
		in   model.Options
		want map[string]string
	}{
		{"full", model.Options{}, map[string]string{
			"cache":   "960dbf111d2384486fcf15e4de8a07cd3dce68eb344bb0a9de603f50e0dc11a3",
			"db":      "3831971ffd6640de4dcd91b0a5c94d1057d2fc2c38bce03d0d723a433d6f782a",
			"job":     "8e86794feb5292950133b44102fe9ed2abab6f19c0b187da58a2238e3e0720e0",
			"limited": "eb9a689df32e7791fab46c24a7eb02b06c6a8cc312cc2bb2ab96753418190960",
			"web":     "86545d19bcd3057e3e39789baed9d55acc239a3ddc878246738f2a238dd0388e",
		}},
		{"zones", model.Options{Files: []string{"docker/compose.yaml"}}, map[string]string{
			"app":     "cbe41071ca4b3b25a13fbfd517a505a4126f97d2e07470600cc02199d943e018",
			"cliente": "315ab923c3a10d821fd0d040526e567643d960cd335b3c88f422ecb83e402e55",
			"mongo":   "1ff77d1c63a8e0bd4557e49025a00c6dbaed6cd77dadc8e8b8e4f240c57dc4b8",
		}},
		{"extends", model.Options{}, map[string]string{
			"inc":  "aebe325d81c12e08daefd49635aa1f2d71fc5241d63dc1b8eb870a06562628b4",
			"same": "963c6a1c867962342e0de9f6592fe1f4a287998edcf891ee8db9f82e1d76cf8e",
			"web":  "aaf2f0be730aad45cdb71b501d2b79d3436c5a3e1046f96976cee3bc2fc099da",
		}},
		{"multi", model.Options{Files: []string{"compose.yaml", "over.yaml"}}, map[string]string{
			"a": "23c72e166c46ff40ad81b9efe3830559c1f4a8c967818921a518c2c990e0d2e1",
			"b": "5e1d6f1245ebca42c6047afb9caf17db2739696838065872378a24780dae855e",
		}},
		{"refs", model.Options{}, map[string]string{
			"main": "5cafec74faf3be6268b0a9c74a8fd40684098981c9341667293dd923bbbb5a28",
			"side": "2cfdb25e7fbb3a9ddced09de8f31c17d69e3f81e0a1fe93dffc0d6617399142a",
		}},
		{"profiles", model.Options{Profiles: []string{"debug"}}, map[string]string{
			"always": "ead32641ace023dfb5148a9f4e8937d023a3b7fcc8af8f3e47f76229311a2be6",
			"debug":  "3e12776677926e5e38619193ce106d2a2cd3ea285a868ed8da38d265bf20f679",
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, _ := load(t, filepath.Join("testdata/corpus", tt.name), tt.in)
			got := map[string]string{}
			for name, s := range p.Services {
				hash, _, err := model.ServiceHash(s)
				if err != nil {
					t.Fatal(err)
				}
				got[name] = hash
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// What is sent to the daemon for the files of the corpus.
func TestSpec(t *testing.T) {
	tests := []struct {
		name string
		in   model.Options
	}{
		{"full", model.Options{}},
		{"zones", model.Options{Files: []string{"docker/compose.yaml"}}},
		{"extends", model.Options{}},
		{"multi", model.Options{Files: []string{"compose.yaml", "over.yaml"}}},
		{"refs", model.Options{}},
		{"profiles", model.Options{}},
	}
	root, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, _ := load(t, filepath.Join(root, "testdata/corpus", tt.name), tt.in)
			spec, err := model.Spec(p, nil, func(string) {})
			if err != nil {
				t.Fatal(err)
			}
			data, err := json.MarshalIndent(spec, "", " ")
			if err != nil {
				t.Fatal(err)
			}
			got := strings.ReplaceAll(string(data), filepath.Join(root, "testdata/corpus"), "/corpus") + "\n"
			golden := filepath.Join(root, "testdata/golden", tt.name+".json")
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestUnsetVariablesAreWarnedOf(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "compose.yaml"), []byte("services:\n  a:\n    image: x:${TAG}\n    command: ${TAG}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, warnings := load(t, dir, model.Options{})
	want := []string{`The "TAG" variable is not set. Defaulting to a blank string. (looked in ` + dir + `/.env: no such file)`}
	if diff := cmp.Diff(want, warnings); diff != "" {
		t.Error(diff)
	}
	if err := os.WriteFile(filepath.Join(dir, ".env"), []byte("OTHER=1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, warnings = load(t, dir, model.Options{})
	want = []string{`The "TAG" variable is not set. Defaulting to a blank string. (looked in ` + dir + `/.env: not set there)`}
	if diff := cmp.Diff(want, warnings); diff != "" {
		t.Error(diff)
	}
	var many string
	want = nil
	for _, name := range []string{"A", "B", "C", "D", "E"} {
		many = "  " + strings.ToLower(name) + ": {image: \"x:${" + name + "}\"}\n" + many
		want = append(want, `The "`+name+`" variable is not set. Defaulting to a blank string. (looked in `+dir+`/.env: not set there)`)
	}
	if err := os.WriteFile(filepath.Join(dir, "compose.yaml"), []byte("services:\n"+many), 0o644); err != nil {
		t.Fatal(err)
	}
	_, warnings = load(t, dir, model.Options{})
	if diff := cmp.Diff(want, warnings); diff != "" {
		t.Errorf("not by the alphabet: %s", diff)
	}
}

func TestEnvFilePrecedence(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		".env":                "A=root\nB=root\nC=root\n",
		"docker/.env":         "B=docker\nC=docker\n",
		"docker/compose.yaml": "services: {a: {image: '${A}-${B}-${C}'}}\n",
		"other.env":           "A=other\nB=other\nC=other\n",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("C", "shell")
	tests := []struct {
		name string
		in   model.Options
		want string
	}{
		{"both", model.Options{Files: []string{"docker/compose.yaml"}}, "root-docker-shell"},
		{"given", model.Options{Files: []string{"docker/compose.yaml"}, EnvFiles: []string{"other.env"}}, "other-other-shell"},
		{"directory", model.Options{Files: []string{"docker/compose.yaml"}, ProjectDir: "."}, "root-root-shell"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, _ := load(t, dir, tt.in)
			if got := p.Services["a"].Image; got != tt.want {
				t.Errorf("image %q, want %q", got, tt.want)
			}
		})
	}
}

// TestLinks: links are aliases in the service's own view of each of its networks; where
// nothing resolves names, they are Docker's links to a container.
func TestLinks(t *testing.T) {
	const two = "services: {a: {image: x, LINKS, MODE}, b: {image: y}}\nnetworks: {n: {}, m: {}}"
	both := map[string][]string{"n": {"b:database", "old-1:cache", "old-2:old-2"}, "m": {"b:database", "old-1:cache", "old-2:old-2"}}
	tests := []struct {
		name, mode string
		links      []string
		endpoints  map[string][]string
	}{
		{"networks", "networks: [n, m]", nil, both},
		{"default bridge", "network_mode: bridge", []string{"b:database", "b:b", "container:old-1:cache", "container:old-2:old-2"}, map[string][]string{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			in := strings.NewReplacer("LINKS", "links: ['b:database', b], external_links: ['old-1:cache', old-2]", "MODE", tt.mode).Replace(two)
			if err := os.WriteFile(filepath.Join(dir, "compose.yaml"), []byte(in), 0o644); err != nil {
				t.Fatal(err)
			}
			p, _ := load(t, dir, model.Options{})
			s, err := model.Spec(p, nil, func(string) {})
			if err != nil {
				t.Fatal(err)
			}
			a := s.Services[slices.IndexFunc(s.Services, func(s api.ProjectService) bool { return s.Name == "a" })]
			endpoints := map[string][]string{}
			for key, e := range a.Endpoints {
				endpoints[key] = e.Links
			}
			if diff := cmp.Diff(tt.endpoints, endpoints); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(tt.links, a.HostConfig.Links); diff != "" {
				t.Error(diff)
			}
			if _, ok := a.DependsOn["b"]; !ok {
				t.Error("a does not wait for what it links to")
			}
		})
	}
}

func TestUnsupported(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"attribute", "services: {a: {image: x, credential_spec: {file: f}}}", `service "a": attribute credential_spec is not supported by Muelle yet (FILE)`},
		{"nested", "services: {a: {image: x, deploy: {resources: {reservations: {generic_resources: [{discrete_resource_spec: {kind: a, value: 1}}]}}}}}", `service "a": attribute deploy.resources.reservations.generic_resources is not supported by Muelle yet (FILE)`},
		{"hook", "services: {a: {image: x, post_start: [{command: y}]}}", `service "a": attribute post_start is not supported by Muelle yet (FILE)`},
		{"value", "services: {a: {image: x, pull_policy: daily}}", `service "a": attribute pull_policy daily is not supported by Muelle yet (FILE)`},
		{"mount", "services: {a: {image: x, volumes: [{type: npipe, source: y, target: /z}]}}", `service "a": attribute volumes.type type npipe is not supported by Muelle yet (FILE)`},
		{"config content", "services: {a: {image: x, configs: [c]}}\nconfigs: {c: {content: hello}}", `config "c": attribute content is not supported by Muelle yet (FILE)`},
		{"secret of a variable", "services: {a: {image: x, secrets: [s]}}\nsecrets: {s: {environment: HOME}}", `secret "s": attribute environment is not supported by Muelle yet (FILE)`},
		{"config of a variable", "services: {a: {image: x, configs: [c]}}\nconfigs: {c: {environment: HOME}}", `config "c": attribute environment is not supported by Muelle yet (FILE)`},
		{"unknown", "services: {a: {image: x, imge: y}}", `validating FILE: services.a additional properties 'imge' not allowed`},
		{"models", "services: {a: {image: x, models: [m]}}\nmodels: {m: {model: y}}", `models is not supported by Muelle yet (FILE)`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "compose.yaml")
			if err := os.WriteFile(file, []byte(tt.in), 0o644); err != nil {
				t.Fatal(err)
			}
			_, err := model.Load(t.Context(), model.Options{Files: []string{file}})
			want := strings.ReplaceAll(tt.want, "FILE", file)
			if err == nil || err.Error() != want {
				t.Errorf("error %v\nwant  %s", err, want)
			}
		})
	}
}

func TestExtensionsAndSwarmAreIgnored(t *testing.T) {
	dir := t.TempDir()
	doc := "x-a: 1\nservices: {a: {image: x, x-b: {c: 1}, deploy: {mode: replicated, placement: {max_replicas_per_node: 1}}}}\n"
	if err := os.WriteFile(filepath.Join(dir, "compose.yaml"), []byte(doc), 0o644); err != nil {
		t.Fatal(err)
	}
	_, warnings := load(t, dir, model.Options{})
	want := []string{"services.a.deploy.placement is heeded by Docker Swarm only and ignored here, as by Docker Compose"}
	if diff := cmp.Diff(want, warnings); diff != "" {
		t.Error(diff)
	}
}

func TestHashTemplate(t *testing.T) {
	s := types.ServiceConfig{Name: "side", ContainerSpec: types.ContainerSpec{NetworkMode: "service:main"}}
	_, template, err := model.ServiceHash(s)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"command":null,"entrypoint":null,"network_mode":"container:` + api.ServiceRef("main") + `"}`
	if template != want {
		t.Errorf("%q, want %q", template, want)
	}
}

// What the ports are called is kept for lookups of SRV, and what is no name of a port
// is left out.
func TestPortNames(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "compose.yaml")
	doc := `
services:
  app:
    image: x
    ports:
      - {name: Web, target: 8080, published: "80"}
      - {name: web, target: 8080, published: "81"}
      - {name: dns, target: 53, protocol: udp}
      - {name: not a name, target: 1}
      - {name: ſql, target: 2} # in small letters like sql to some, and no letter of a name
      - "9000"
  said:
    image: x
    labels: {io.muelle.ports: sql=5432/tcp}
    ports: [{name: web, target: 80}]
`
	if err := os.WriteFile(file, []byte(doc), 0o644); err != nil {
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
	for i, want := range []string{"web=8080/tcp,dns=53/udp", "sql=5432/tcp"} {
		if got := spec.Services[i].Config.Labels[api.LabelPortNames]; got != want {
			t.Errorf("%s: got %q, want %q", spec.Services[i].Name, got, want)
		}
	}
}
