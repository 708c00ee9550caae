//go:build vm

package vm_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// writePolicy compiles the machine's policy of SELinux into the tree.
func writePolicy(t *testing.T, tree string) {
	t.Helper()
	compiler := "../../bin/vm/checkpolicy/usr/bin/checkpolicy"
	if _, err := os.Stat(compiler); err != nil {
		t.Fatalf("%v: run hack/unpack.sh bin/vm/checkpolicy checkpolicy", err)
	}
	text, err := os.ReadFile("selinux/policy.conf")
	if err != nil {
		t.Fatal(err)
	}
	// Containers are told apart by two of 1024 categories.
	var categories strings.Builder
	for i := range 1024 {
		fmt.Fprintf(&categories, "category c%d;\n", i)
	}
	source := filepath.Join(t.TempDir(), "policy.conf")
	if err := os.WriteFile(source, []byte(strings.Replace(string(text), "#CATEGORIES\n", categories.String(), 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), compiler, "-M", "-U", "allow", "-c", "31", "-o", filepath.Join(tree, "muelle/selinux.policy"), source).CombinedOutput()
	if err != nil {
		t.Fatalf("checkpolicy: %v\n%s", err, out)
	}
	contexts := filepath.Join(tree, "etc/selinux/muelle/contexts")
	if err := os.MkdirAll(contexts, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		filepath.Join(tree, "etc/selinux/config"): "SELINUX=enforcing\nSELINUXTYPE=muelle\n",
		filepath.Join(contexts, "lxc_contexts"): `process = "system_u:system_r:container_t:s0"
file = "system_u:object_r:container_file_t:s0"
ro_file = "system_u:object_r:container_ro_file_t:s0"
`,
	} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSELinux boots the machine of the ring with SELinux instead of AppArmor.
// MUELLE_VM_RUN, a regular expression, narrows its parts.
func TestSELinux(t *testing.T) {
	tree := t.TempDir()
	run := "^TestSELinux$"
	if only := os.Getenv("MUELLE_VM_RUN"); only != "" {
		run += "/" + only
	}
	writeTree(t, tree, run)
	writePolicy(t, tree)
	ring(t, "selinux", tree, "security=selinux selinux=1", []string{"TestSELinux"})
}
