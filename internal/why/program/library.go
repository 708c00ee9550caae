package program

import (
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"muelle/internal/container/layer"
)

func owner(info os.FileInfo) (*syscall.Stat_t, bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	return st, ok
}

// libraries gives those that are not found, of a program and of what it needs, as
// the loader would look for them (ld.so(8), musl's ldso/dynlink.c). Its cache is not
// read: the folders that it is made of are.
func (x *examination) libraries(o *object, name string, musl bool) []Library {
	dirs := x.libraryDirs(musl)
	type job struct {
		o    *object
		name string
	}
	var missing []Library
	seen := map[string]bool{}
	for jobs := []job{{o, name}}; len(jobs) > 0; jobs = jobs[1:] {
		j := jobs[0]
		where := append(ownDirs(j.o, j.name), dirs...)
		for _, lib := range j.o.needed {
			// musl's loader is its C library; both know their own loader's name.
			if seen[lib] || len(seen) >= maxLibraries || strings.HasPrefix(lib, "ld-") || musl && strings.HasPrefix(lib, "libc.") {
				continue
			}
			seen[lib] = true
			at, f := x.find(lib, where)
			if x.tooMany() {
				return nil // whether it is missing is not known
			}
			if f == nil {
				missing = append(missing, Library{lib, j.name})
				continue
			}
			if o, err := parseELF(f); err == nil {
				jobs = append(jobs, job{o, at})
			}
			f.Close()
		}
	}
	return missing
}

func (x *examination) find(lib string, dirs []string) (string, *os.File) {
	if strings.Contains(lib, "/") {
		dirs = []string{""}
	}
	for _, dir := range dirs {
		at := path.Join(dir, lib)
		f, info, err := x.open(at)
		if err != nil {
			continue
		}
		if info.Mode().IsRegular() {
			return at, f
		}
		f.Close()
	}
	return "", nil
}

// ownDirs are those that a file itself names.
func ownDirs(o *object, name string) []string {
	var out []string
	for _, dir := range o.paths {
		dir = strings.NewReplacer("$ORIGIN", path.Dir(name), "${ORIGIN}", path.Dir(name)).Replace(dir)
		if dir != "" {
			out = append(out, dir)
		}
	}
	return out
}

func (x *examination) libraryDirs(musl bool) []string {
	var out []string
	if p := x.getenv("LD_LIBRARY_PATH"); p != "" {
		out = strings.Split(p, ":")
	}
	if musl {
		for _, f := range []string{"/etc/ld-musl-x86_64.path", "/etc/ld-musl-aarch64.path"} {
			if data := x.small(f); data != "" {
				return append(out, strings.FieldsFunc(data, func(r rune) bool { return r == '\n' || r == ':' })...)
			}
		}
		return append(out, "/lib", "/usr/local/lib", "/usr/lib")
	}
	out = append(out, x.ldSoConf("/etc/ld.so.conf", 0)...)
	for _, arch := range []string{"x86_64-linux-gnu", "aarch64-linux-gnu"} {
		out = append(out, "/lib/"+arch, "/usr/lib/"+arch, "/usr/local/lib/"+arch)
	}
	return append(out, "/lib64", "/usr/lib64", "/lib", "/usr/lib", "/usr/local/lib", "/usr/local/lib64")
}

func (x *examination) small(name string) string {
	f, info, err := x.open(name)
	if err != nil {
		return ""
	}
	defer f.Close()
	if !info.Mode().IsRegular() {
		return ""
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return ""
	}
	return string(data)
}

// ldSoConf reads the folders of a configuration and of those that it includes.
func (x *examination) ldSoConf(name string, depth int) []string {
	const deepest = 3
	if depth > deepest {
		return nil
	}
	var out []string
	for line := range strings.Lines(x.small(name)) {
		if len(out) >= maxLibraries || x.tooMany() {
			break
		}
		line, _, _ = strings.Cut(line, "#")
		f := strings.Fields(line)
		switch {
		case len(f) == 2 && f[0] == "include":
			for _, file := range x.glob(f[1]) {
				out = append(out, x.ldSoConf(file, depth+1)...)
			}
		case len(f) > 0 && path.IsAbs(f[0]):
			out = append(out, f[0])
		}
	}
	return out[:min(len(out), maxLibraries)]
}

// glob matches in the last element only, as these files do.
func (x *examination) glob(pattern string) []string {
	x.opened++
	dir, err := layer.OpenInRoot(x.root, path.Dir(pattern), unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, err := dir.Readdirnames(maxLibraries)
	if err != nil {
		return nil
	}
	slices.Sort(names)
	var out []string
	for _, n := range names {
		if ok, err := path.Match(path.Base(pattern), n); ok && err == nil {
			out = append(out, path.Join(path.Dir(pattern), n))
		}
	}
	return out
}
