//go:build root

package cgroup_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"muelle/internal/linux/cgroup"
)

// TestLeave runs itself once more: a process moves only itself.
func TestLeave(t *testing.T) {
	const variable = "MUELLE_TEST_LEAVE"
	if name := os.Getenv(variable); name != "" {
		leave(t, name)
		return
	}
	self := exec.Command(os.Args[0], "-test.run=^TestLeave$")
	self.Env = append(os.Environ(), fmt.Sprintf("%s=muelle-leave%d", variable, os.Getpid()))
	if out, err := self.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

func leave(t *testing.T, name string) {
	g, err := cgroup.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Create(nil); err != nil {
		t.Fatal(err)
	}
	all, err := cgroup.Hierarchies()
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range all {
		if err := os.WriteFile(filepath.Join(h.Mountpoint, name, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := cgroup.Leave("other"); err != nil || !g.Exists() {
		t.Errorf("another group's name: %v", err)
	}
	if err := cgroup.Leave(name); err != nil {
		t.Error(err)
	}
	after, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	if g.Exists() || strings.Contains(string(after), name) {
		t.Errorf("the group is there: %v; this process is in\n%s", g.Exists(), after)
	}
}
