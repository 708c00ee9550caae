package cgroup

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// forgetful: before Linux 6.4 (and what of its mending older series took over) a
// process that is cloned into a group gets its parent's processors and memory nodes,
// not the group's (the kernel's commit 42a11bf5c543).
var forgetful = sync.OnceValue(func() bool {
	var u unix.Utsname
	return unix.Uname(&u) == nil && forgets(unix.ByteSliceToString(u.Release[:]))
})

func forgets(release string) bool {
	var major, minor int
	if n, _ := fmt.Sscanf(release, "%d.%d", &major, &minor); n < 2 {
		return false
	}
	return major < 6 || major == 6 && minor < 4
}

// forgotten tells whether a child must be moved into a group of version 2, which may
// take some milliseconds, instead of being cloned into it.
func (g *Group) forgotten(dir string) bool {
	return Version() == 2 && forgetful() && narrowed(Root, dir)
}

// Forgotten tells whether who enters by an Entry that was opened before the group's
// limits were what they are would have other processors or memory nodes.
func (g *Group) Forgotten() bool { return slices.ContainsFunc(g.dirs, g.forgotten) }

// narrowed tells whether a group has other processors or memory nodes than the root.
func narrowed(root, dir string) bool {
	for _, name := range []string{"cpuset.cpus.effective", "cpuset.mems.effective"} {
		all, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			continue // the controller is not there
		}
		own, err := os.ReadFile(filepath.Join(dir, name))
		if err == nil && !bytes.Equal(all, own) {
			return true
		}
	}
	return false
}
