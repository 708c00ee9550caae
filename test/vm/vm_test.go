//go:build vm

package vm_test

import (
	"bytes"
	"context"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"muelle/test/vm"
)

// mark stands in the comment of an end-to-end test that belongs to the ring.
const mark = "//muelle:ring"

// marked lists the end-to-end tests with the mark.
func marked(t *testing.T) []string {
	t.Helper()
	var names []string
	files, err := filepath.Glob("../e2e/*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		file, err := parser.ParseFile(token.NewFileSet(), f, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if ok && fn.Doc != nil && slices.ContainsFunc(fn.Doc.List, func(c *ast.Comment) bool { return c.Text == mark }) {
				names = append(names, fn.Name.Name)
			}
		}
	}
	return names
}

// boot boots a disk made of a tree and gives what the console said. MUELLE_VM_KERNEL
// names the folder of another unpacked kernel package.
func boot(t *testing.T, name, tree, words string, patience time.Duration) string {
	t.Helper()
	dir := t.TempDir()
	kernel := vm.Kernel{Dir: "../../bin/vm/kernel"}
	if other := os.Getenv("MUELLE_VM_KERNEL"); other != "" {
		kernel.Dir = other
	}
	m := vm.Machine{Kernel: kernel, Initramfs: filepath.Join(dir, "initramfs"), Disk: filepath.Join(dir, "disk"), Slow: filepath.Join(dir, "slow"), Words: words}
	if err := os.WriteFile(m.Slow, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(m.Slow, 64<<20); err != nil {
		t.Fatal(err)
	}
	init := filepath.Join(dir, "init")
	compile(t, init, "build", "./init")
	if err := kernel.WriteInitramfs(m.Initramfs, init); err != nil {
		t.Fatal(err)
	}
	if err := vm.WriteDisk(t.Context(), m.Disk, tree); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(interrupted, patience)
	defer cancel()
	log, err := os.Create(filepath.Join("../../bin/vm", name+".log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	begun := time.Now()
	if err := m.Boot(ctx, log); err != nil {
		t.Errorf("%v (%v)", err, ctx.Err())
	}
	t.Logf("%s: the machine ran for %v", name, time.Since(begun).Round(time.Second))
	if interrupted.Err() != nil {
		t.Fatal("interrupted")
	}
	out, err := os.ReadFile(log.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(bytes.ReplaceAll(out, []byte("\r"), nil))
}

var verdict = regexp.MustCompile(`(?m)^\s*--- (PASS|FAIL|SKIP): (Test\w+) `)

// TestRing runs the marked cases on cgroup v2 alone. MUELLE_VM_RUN, a regular
// expression, narrows them.
func TestRing(t *testing.T) {
	names := marked(t)
	if len(names) == 0 {
		t.Fatal("no test is marked " + mark)
	}
	run := "^(" + strings.Join(names, "|") + ")$"
	if only := os.Getenv("MUELLE_VM_RUN"); only != "" {
		run = only
		names = slices.DeleteFunc(names, func(n string) bool { return !regexp.MustCompile(only).MatchString(n) })
	}
	tree := t.TempDir()
	writeTree(t, tree, run)
	ring(t, "ring", tree, "", names)
}

// ring boots a tree of writeTree and tells which of the named cases passed.
func ring(t *testing.T, name, tree, words string, names []string) {
	t.Helper()
	out := boot(t, name, tree, "muelle.run=/muelle/ring "+words, 25*time.Minute)
	passed := map[string]bool{}
	for _, m := range verdict.FindAllStringSubmatch(out, -1) {
		passed[m[2]] = m[1] == "PASS"
	}
	for _, n := range names {
		t.Run(n, func(t *testing.T) {
			if !passed[n] {
				t.Error("it did not pass in the virtual machine")
			}
		})
	}
	if !strings.Contains(out, "muelle-vm: exit status 0\n") || t.Failed() {
		t.Errorf("the machine's console:\n%s", out)
	}
}
