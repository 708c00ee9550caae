// Package layer_test holds the diagram of ARCHITECTURE.md: which package may import
// which.
package layer_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const module = "muelle"

// layers from the bottom up. A package stands for its whole subtree; it may import
// strictly lower lines and its own subtree.
var layers = [][]string{
	{"api", "internal/linux", "internal/id", "internal/atomicfile", "internal/filter", "internal/step", "internal/logdriver", "internal/metric", "internal/compressed", "internal/spelling", "internal/shimfile"},
	{"client", "internal/meta", "internal/check", "internal/oci", "internal/shimapi", "internal/policy"},
	{"internal/store", "internal/runtime", "internal/netdriver", "internal/probe", "internal/console"},
	{"internal/event", "internal/remote", "internal/shim", "internal/buildclient", "internal/registry"},
	{"internal/image", "internal/network", "internal/volume", "internal/ocirun"},
	{"internal/container", "internal/zone"},
	{"internal/why", "internal/build"},
	{"internal/project", "internal/system"},
	{"internal/server", "internal/cli", "internal/compose"},
	{"cmd"},
}

// root gives the entry of the table that a package belongs to, and its line.
func root(path string) (name string, line int) {
	rel := strings.TrimPrefix(path, module+"/")
	for i, names := range layers {
		for _, n := range names {
			if rel == n || strings.HasPrefix(rel, n+"/") {
				return n, i
			}
		}
	}
	return "", -1
}

type pkg struct {
	ImportPath string
	Doc        string
	Name       string
	Imports    []string
	GoFiles    []string
}

func list(t *testing.T) []pkg {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Doc,Name,Imports,GoFiles", "../../...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

func TestImportsPointDownwards(t *testing.T) {
	for _, p := range list(t) {
		own, line := root(p.ImportPath)
		if line < 0 {
			if !strings.HasPrefix(p.ImportPath, module+"/test") && !strings.HasPrefix(p.ImportPath, module+"/hack") {
				t.Errorf("%s has no place in the layers", p.ImportPath)
			}
			continue
		}
		for _, imp := range p.Imports {
			if !strings.HasPrefix(imp, module+"/") {
				continue
			}
			other, otherLine := root(imp)
			if other != own && otherLine >= line {
				t.Errorf("%s (line %d) imports %s (line %d)", p.ImportPath, line, imp, otherLine)
			}
		}
	}
}

func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	for _, p := range list(t) {
		if len(p.GoFiles) > 0 && p.Doc == "" {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
	}
}

// banned holds what may be imported by the listed packages only, and why.
var banned = []struct {
	prefix, why string
	allowed     []string
}{
	{"github.com/moby/buildkit", "its types stay in two packages", []string{"internal/build", "internal/buildclient"}},
	{"github.com/compose-spec/compose-go", "the daemon knows api.ProjectSpec only", []string{"internal/compose"}},
	{"github.com/distribution/distribution", "the registry server is a process of its own", []string{"internal/registry"}},
	{"github.com/sirupsen/logrus", "we log with slog; what libraries log is bridged or silenced once a binary", []string{"internal/store", "internal/compose", "internal/registry"}},
}

func TestBannedImports(t *testing.T) {
	for _, p := range list(t) {
		own, _ := root(p.ImportPath)
		for _, b := range banned {
			for _, imp := range p.Imports {
				if !strings.HasPrefix(imp, b.prefix) {
					continue
				}
				ok := false
				for _, a := range b.allowed {
					ok = ok || a == own
				}
				if !ok {
					t.Errorf("%s imports %s: %s", p.ImportPath, imp, b.why)
				}
			}
		}
	}
}

// linked holds what a binary must not link, by prefix of the import path.
var linked = map[string][]string{
	"cmd/muelle": {
		"github.com/moby/buildkit", "github.com/compose-spec", "github.com/containerd/containerd", "github.com/vishvananda", "github.com/google/nftables",
		"muelle/internal/store", "muelle/internal/runtime", "google.golang.org/grpc", "go.opentelemetry.io/otel/sdk",
	},
	"cmd/muelle-compose": {"github.com/containerd/containerd/v2/core/metadata", "github.com/vishvananda", "muelle/internal/store", "muelle/internal/project"},
	"cmd/muelled":        {"github.com/compose-spec", "github.com/distribution/distribution", "muelle/internal/cli", "muelle/internal/console"},
	"cmd/muelle-shim":    {"net/http", "encoding/json", "fmt", "os/exec", "log", "net"},
}

func TestLinkedPackages(t *testing.T) {
	for name, prefixes := range linked {
		out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", module+"/"+name).Output()
		if err != nil {
			t.Fatalf("go list %s: %v", name, err)
		}
		for dep := range strings.Lines(string(out)) {
			dep = strings.TrimSpace(dep)
			for _, prefix := range prefixes {
				// Of the standard library the package itself is meant, of others the module.
				if dep == prefix || strings.Contains(prefix, ".") && strings.HasPrefix(dep, prefix+"/") {
					t.Errorf("%s links %s", name, dep)
				}
			}
		}
	}
}

// The diagram names the packages of each line, and only those that there are.
func TestTheDiagramIsThisTable(t *testing.T) {
	text, err := os.ReadFile("../../ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## Layers\n")
	_, section, _ = strings.Cut(section, "```\n")
	section, _, _ = strings.Cut(section, "```\n")
	drawn := make([][]string, len(layers))
	line := -1
	for row := range strings.Lines(section) {
		if row[0] != ' ' {
			if line, err = strconv.Atoi(row[:1]); err != nil || line >= len(layers) {
				t.Fatalf("a row of no line: %q", row)
			}
		}
		if line < 0 {
			t.Fatalf("a row before the first line: %q", row)
		}
		for _, word := range strings.Fields(row[1:]) {
			name := strings.TrimSuffix(word, "/…")
			if name != "api" && name != "client" && name != "cmd" && !strings.HasPrefix(name, "internal/") {
				break // what the line is for
			}
			drawn[line] = append(drawn[line], name)
		}
	}
	for i, names := range layers {
		if diff := cmp.Diff(slices.Sorted(slices.Values(names)), slices.Sorted(slices.Values(drawn[i]))); diff != "" {
			t.Errorf("line %d, this table and the diagram of ARCHITECTURE.md (-table +diagram):\n%s", i, diff)
		}
		for _, name := range names {
			if _, err := os.Stat("../../" + name); err != nil {
				t.Errorf("line %d: %v", i, err)
			}
		}
	}
}

// NOTICE names every module that go.mod requires directly.
func TestNoticeNamesTheModules(t *testing.T) {
	notice, err := os.ReadFile("../../NOTICE")
	if err != nil {
		t.Fatal(err)
	}
	named := strings.Fields(string(notice))
	gomod, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	direct := 0
	for line := range strings.Lines(string(gomod)) {
		words := strings.Fields(line)
		if len(words) == 2 && strings.HasPrefix(line, "\t") {
			if direct++; !slices.Contains(named, words[0]) {
				t.Errorf("NOTICE does not name %s and its licence", words[0])
			}
		}
	}
	if direct == 0 {
		t.Error("go.mod requires nothing")
	}
}
