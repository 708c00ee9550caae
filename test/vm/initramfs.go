// Package vm starts a virtual machine, by qemu in software emulation, in which the
// end-to-end cases marked //muelle:ring run on what most hosts have and this one may
// not: a stock kernel with cgroup v2 alone, and systemd.
package vm

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// archive writes cpio's "newc" format, which the kernel unpacks as its initial file
// system (Documentation/driver-api/early-userspace/buffer-format.rst).
type archive struct {
	w     io.Writer
	inode int
	err   error
}

// add writes one entry; mode holds the file type as stat(2) has it.
func (a *archive) add(name string, mode uint32, data []byte) {
	a.inode++
	pad := func(n int) []byte { return make([]byte, (4-n%4)%4) }
	head := fmt.Sprintf("070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00",
		a.inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name)+1, 0, name)
	for _, b := range [][]byte{[]byte(head), pad(len(head)), data, pad(len(data))} {
		if a.err == nil {
			_, a.err = a.w.Write(b)
		}
	}
}

func (a *archive) close() error {
	a.inode = -1
	a.add("TRAILER!!!", 0, nil)
	return a.err
}

// initramfs writes the initial file system: the program init and the modules, named so
// that the order of names is the order of loading.
func initramfs(w io.Writer, init string, modules []string) error {
	a := &archive{w: w}
	for _, dir := range []string{"dev", "proc", "sys", "modules"} {
		a.add(dir, 0o040755, nil)
	}
	// The kernel opens it as the first process's streams before anything is mounted.
	program, err := os.ReadFile(init)
	if err != nil {
		return err
	}
	a.add("init", 0o100755, program)
	for i, m := range modules {
		data, err := os.ReadFile(m)
		if err != nil {
			return err
		}
		a.add(fmt.Sprintf("modules/%03d-%s", i, filepath.Base(m)), 0o100644, data)
	}
	return a.close()
}

// moduleOrder gives the files of the wanted modules and of all that they need, what is
// needed first. A wanted module that is built into the kernel is left out, and so is one
// that it has not where "?" follows the name.
func moduleOrder(dir string, wanted []string) ([]string, error) {
	files, builtin := map[string]string{}, map[string]bool{}
	name := func(path string) string {
		return strings.ReplaceAll(strings.TrimSuffix(filepath.Base(path), ".ko"), "-", "_")
	}
	list, err := os.ReadFile(filepath.Join(dir, "modules.builtin"))
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(list)) {
		builtin[name(strings.TrimSpace(line))] = true
	}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".ko") {
			files[name(path)] = path
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	var order []string
	var add func(m string) error
	add = func(m string) error {
		path, ok := files[m]
		if !ok && builtin[m] || slices.Contains(order, path) {
			return nil
		}
		if !ok {
			return fmt.Errorf("the kernel has no module %s", m)
		}
		needs, err := depends(path)
		if err != nil {
			return err
		}
		for _, n := range needs {
			if err := add(strings.ReplaceAll(n, "-", "_")); err != nil {
				return err
			}
		}
		order = append(order, path)
		return nil
	}
	for _, m := range wanted {
		m, optional := strings.CutSuffix(m, "?")
		if _, there := files[m]; optional && !there {
			continue
		}
		if err := add(m); err != nil {
			return nil, err
		}
	}
	return order, nil
}

// depends reads what a module needs from its section .modinfo.
func depends(path string) ([]string, error) {
	f, err := elf.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read module: %w", err)
	}
	defer f.Close()
	s := f.Section(".modinfo")
	if s == nil {
		return nil, fmt.Errorf("%s has no section .modinfo", path)
	}
	data, err := s.Data()
	if err != nil {
		return nil, err
	}
	for entry := range bytes.SplitSeq(data, []byte{0}) {
		if list, ok := bytes.CutPrefix(entry, []byte("depends=")); ok && len(list) > 0 {
			return strings.Split(string(list), ","), nil
		}
	}
	return nil, nil
}
