package program

import (
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"muelle/internal/container/layer"
)

// openAnywhere opens a file of the root, or of the mount that lies over it.
func (x *examination) openAnywhere(name string) (*os.File, os.FileInfo, error) {
	m, below := x.mountOf(name)
	if m == nil {
		return layer.Look(x.root, path.Join(".", name))
	}
	source, err := os.OpenFile(m.Source, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	info, err := source.Stat()
	if err == nil && info.Mode().IsRegular() && below == "" {
		return layer.Reading(source)
	}
	defer source.Close()
	switch {
	case err != nil:
		return nil, nil, err
	case info.IsDir():
		return layer.Look(source, path.Join(".", below))
	}
	return nil, nil, &os.PathError{Op: "open", Path: name, Err: unix.ENOTDIR}
}

// mountOf gives the deepest mount that a path lies in, and the rest of the path.
func (x *examination) mountOf(name string) (best *Mount, below string) {
	for i, m := range x.mounts {
		at := path.Clean(m.At)
		rest, ok := strings.CutPrefix(name, strings.TrimSuffix(at, "/"))
		if m.Source == "" || !ok || rest != "" && rest[0] != '/' || best != nil && len(at) < len(path.Clean(best.At)) {
			continue
		}
		best, below = &x.mounts[i], strings.TrimPrefix(rest, "/")
	}
	return best, below
}

// maxNames are read of one folder of PATH.
const maxNames = 4096

// similar finds a program in the folders whose name is one slip of the fingers away;
// empty: there is none.
func (x *examination) similar(name string, dirs []string) string {
	if len(name) < 3 || len(name) > 64 {
		return ""
	}
	for _, dir := range dirs {
		f, info, err := x.open(dir)
		if err != nil {
			continue
		}
		var names []string
		if info.IsDir() {
			names, _ = f.Readdirnames(maxNames) // what cannot be read is not there
		}
		f.Close()
		slices.Sort(names)
		for _, n := range names {
			if oneSlip(name, n) {
				return n
			}
		}
	}
	return ""
}

// oneSlip says whether a letter too many, one too few, another one, or two in the
// wrong order make b of a.
func oneSlip(a, b string) bool {
	if len(a) > len(b) {
		a, b = b, a
	}
	i := 0
	for i < len(a) && a[i] == b[i] {
		i++
	}
	switch len(b) - len(a) {
	case 0:
		swapped := i+1 < len(a) && a[i] == b[i+1] && a[i+1] == b[i] && a[i+2:] == b[i+2:]
		return swapped || i < len(a) && a[i+1:] == b[i+1:]
	case 1:
		return a[i:] == b[i+1:]
	}
	return false
}
