package cgroup_test

import (
	"strings"
	"testing"

	"muelle/internal/linux/cgroup"
)

func TestScopeOfSystemd(t *testing.T) {
	path := cgroup.ScopePath("apps-web.slice", "muelle-1", "abc")
	g, err := cgroup.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	const below = "/apps.slice/apps-web.slice/muelle-1-abc.scope/container"
	controller := "memory"
	if cgroup.Version() == 2 {
		controller = ""
	}
	if g.Path() != path || !strings.HasSuffix(g.Dir(controller), below) {
		t.Errorf("path %s, folder %s, want %s below %s", g.Path(), g.Dir(controller), below, cgroup.Root)
	}
	for _, bad := range []string{"a:b", "a.slice:b", "x:b:c", "a.slice:b:", "a.slice::c", "a.slice:b:c/../../d", "../a.slice:b:c", "a.slice:../b:c", "a--b.slice:b:c"} {
		if _, err := cgroup.Open(bad); err == nil {
			t.Errorf("%s was opened", bad)
		}
	}
	if !cgroup.Systemd() {
		if err := g.Enclose(t.Context(), 1); err == nil || !strings.Contains(err.Error(), "systemd does not run here") {
			t.Errorf("a scope without systemd: %v", err)
		}
	}
	plain, err := cgroup.Open("/a/b")
	if err != nil {
		t.Fatal(err)
	}
	if err := plain.Enclose(t.Context(), 1); err != nil {
		t.Errorf("a group in no scope needs none: %v", err)
	}
}
