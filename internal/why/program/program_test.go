package program_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"muelle/internal/why/program"
)

// elfFile is a little-endian 64-bit ELF file that needs a loader and libraries.
func elfFile(machine uint16, interp string, needed ...string) string {
	const headers, at = 3, 64 + 3*56
	table := []byte{0}
	var dynamic bytes.Buffer
	put := func(v ...uint64) { binary.Write(&dynamic, binary.LittleEndian, v) }
	for _, n := range needed {
		put(1, uint64(len(table)))
		table = append(append(table, n...), 0)
	}
	interpAt := uint64(at)
	tableAt := interpAt + uint64(len(interp)) + 1
	put(5, tableAt, 0, 0)
	dynamicAt := tableAt + uint64(len(table))
	var b bytes.Buffer
	b.WriteString("\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	binary.Write(&b, binary.LittleEndian, []uint16{2, machine, 1, 0})
	binary.Write(&b, binary.LittleEndian, []uint64{0, 64, 0})
	binary.Write(&b, binary.LittleEndian, []uint32{0})
	binary.Write(&b, binary.LittleEndian, []uint16{64, 56, headers, 0, 0, 0})
	segment := func(kind uint32, offset, size uint64) {
		binary.Write(&b, binary.LittleEndian, []uint32{kind, 4})
		binary.Write(&b, binary.LittleEndian, []uint64{offset, offset, offset, size, size, 1})
	}
	total := dynamicAt + uint64(dynamic.Len())
	segment(1, 0, total)
	segment(3, interpAt, uint64(len(interp))+1)
	segment(2, dynamicAt, uint64(dynamic.Len()))
	b.WriteString(interp + "\x00")
	b.Write(table)
	b.Write(dynamic.Bytes())
	return b.String()
}

const glibc, musl = "/lib64/ld-linux-x86-64.so.2", "/lib/ld-musl-x86_64.so.1"

func TestExamine(t *testing.T) {
	amd64 := func(interp string, needed ...string) string { return elfFile(62, interp, needed...) }
	files := map[string]string{
		"bin/sh": "x", "usr/bin/env": "x", "usr/bin/python": "x",
		"app/run.sh": "#!/bin/sh\necho", "app/crlf.sh": "#!/bin/sh\r\necho\r\n", "app/lost.sh": "#!/bin/bash -e\n",
		"app/env.py": "#!/usr/bin/env -S python\n", "app/env.rb": "#!/usr/bin/env ruby\n", "app/plain": "echo hi\n",
		"app/arm": elfFile(183, glibc), "app/glibc": amd64(glibc), "app/musl": amd64(musl, "libc.musl-x86_64.so.1", "libz.so.1", "libgone.so.2"),
		musl[1:]: amd64(""), "usr/lib/libz.so.1": amd64("", "libdeep.so"), "app/trunc": amd64(musl)[:70],
	}
	dir := t.TempDir()
	for name, content := range files {
		at := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// Links are the container's: they lead where they lead inside it.
	for link, target := range map[string]string{"app/link": "/app/run.sh", "app/away": "../../../../../../etc/hostname"} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(dir, "app/plain"), 0o644); err != nil {
		t.Fatal(err)
	}
	root, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	type want struct {
		Path, Interpreter, EnvMissing, Arch, OtherLoader string
		Kind                                             program.Kind
		Executable, Foreign, InterpreterMissing, CRLF    bool
		Libraries                                        []program.Library
	}
	tests := map[string]want{
		"sh":           {Path: "/bin/sh", Kind: program.Other, Executable: true},
		"bash":         {Kind: program.Missing},
		"./app/run.sh": {Path: "/app/run.sh", Kind: program.Script, Executable: true, Interpreter: "/bin/sh"},
		"/app/link":    {Path: "/app/link", Kind: program.Script, Executable: true, Interpreter: "/bin/sh"},
		"/app/away":    {Kind: program.Missing},
		"/app":         {Path: "/app", Kind: program.Directory, Executable: true},
		"/app/crlf.sh": {Path: "/app/crlf.sh", Kind: program.Script, Executable: true, Interpreter: "/bin/sh\r", CRLF: true},
		"/app/lost.sh": {Path: "/app/lost.sh", Kind: program.Script, Executable: true, Interpreter: "/bin/bash", InterpreterMissing: true},
		"/app/env.py":  {Path: "/app/env.py", Kind: program.Script, Executable: true, Interpreter: "/usr/bin/env"},
		"/app/env.rb":  {Path: "/app/env.rb", Kind: program.Script, Executable: true, Interpreter: "/usr/bin/env", EnvMissing: "ruby"},
		"/app/plain":   {Path: "/app/plain", Kind: program.Other},
		"/app/arm":     {Path: "/app/arm", Kind: program.ELF, Executable: true, Arch: "arm64", Foreign: true},
		"/app/trunc":   {Path: "/app/trunc", Kind: program.ELF, Executable: true, Arch: "amd64"},
		"/app/glibc": {Path: "/app/glibc", Kind: program.ELF, Executable: true, Arch: "amd64", Interpreter: glibc,
			InterpreterMissing: true, OtherLoader: musl},
		"/app/musl": {Path: "/app/musl", Kind: program.ELF, Executable: true, Arch: "amd64", Interpreter: musl,
			Libraries: []program.Library{{Name: "libgone.so.2", NeededBy: "/app/musl"}, {Name: "libdeep.so", NeededBy: "/usr/lib/libz.so.1"}}},
	}
	for name, w := range tests {
		r := program.Examine(root, program.Options{Name: name})
		got := want{r.Path, r.Interpreter, r.EnvMissing, r.Arch, r.OtherLoader, r.Kind, r.Executable, r.Foreign, r.InterpreterMissing, r.CRLF, r.Libraries}
		if diff := cmp.Diff(w, got); diff != "" {
			t.Errorf("%s: -want +got\n%s", name, diff)
		}
	}
}

// TestExamineMounted: what lies below a mount is what the program sees there.
func TestExamineMounted(t *testing.T) {
	dir, host := t.TempDir(), t.TempDir()
	for name, content := range map[string]string{
		dir + "/bin/sh": "x", dir + "/app/run.sh": "", host + "/crlf.sh": "#!/bin/sh\r\n", host + "/deep/run.sh": "#!/bin/gone\n",
	} {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/etc/hostname", host+"/away"); err != nil {
		t.Fatal(err)
	}
	root, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	mounts := []program.Mount{{At: "/app/run.sh", Source: host + "/crlf.sh"}, {At: "/app", Source: host}, {At: "/app/deep/", Source: host + "/deep"}, {At: "/tmp"}}
	for name, want := range map[string]program.Report{
		"/app/run.sh":      {Kind: program.Script, CRLF: true, Interpreter: "/bin/sh\r"},
		"/app/crlf.sh":     {Kind: program.Script, CRLF: true, Interpreter: "/bin/sh\r"},
		"/app/deep/run.sh": {Kind: program.Script, Interpreter: "/bin/gone", InterpreterMissing: true},
		"/app/run.sh/x":    {Kind: program.Missing},
		"/app/away":        {Kind: program.Missing},
		"/application":     {Kind: program.Missing},
		"/app/deep":        {Kind: program.Directory},
		"/bin/sh":          {Kind: program.Other},
	} {
		r := program.Examine(root, program.Options{Name: name, Mounts: mounts})
		if got := (program.Report{Kind: r.Kind, CRLF: r.CRLF, Interpreter: r.Interpreter, InterpreterMissing: r.InterpreterMissing}); !cmp.Equal(got, want) {
			t.Errorf("%s: %s", name, cmp.Diff(want, got))
		}
	}
}

func TestSimilar(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"sleep", "python3", "sh", "echo"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for name, want := range map[string]string{
		"slepe": "sleep", "sleeep": "sleep", "slee": "sleep", "selep": "sleep", "peels": "", "slepp": "sleep", "python": "python3", "pyhton3": "python3",
		"eco": "echo", "ehco": "echo", "xs": "", "/slee": "", "other": "", "leep": "sleep", "echoo": "echo",
	} {
		if r := program.Examine(root, program.Options{Name: name, Env: []string{"PATH=/none:/"}}); r.Similar != want {
			t.Errorf("%s: %q, want %q", name, r.Similar, want)
		}
	}
}

// TestHostileImages: what is no regular file is not opened, opening alone may have an
// effect; and an image cannot make the engine look at files without end.
func TestHostileImages(t *testing.T) {
	dir := t.TempDir()
	write := func(name, data string) {
		t.Helper()
		full := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(data), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// Opening it fails; only who does not, sees it.
	l, err := net.Listen("unix", filepath.Join(dir, "socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	write(glibc, "x")
	write("app", elfFile(62, glibc, "libgone.so"))
	write("etc/ld.so.conf", strings.Repeat("include /etc/ld.so.conf.d/*\n", 2000))
	for i := range 200 {
		write(fmt.Sprintf("etc/ld.so.conf.d/%d.conf", i), strings.Repeat("include /etc/ld.so.conf.d/*\n", 2000))
	}
	root, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if r := program.Examine(root, program.Options{Name: "/socket"}); r.Kind != program.Special {
		t.Errorf("a socket is %s", r.Kind)
	}
	r := program.Examine(root, program.Options{Name: "/app"})
	if r.Kind != program.ELF || r.InterpreterMissing || len(r.Libraries) > 0 {
		t.Errorf("%+v: what was not looked for is not missing", r)
	}
}

func FuzzExamine(f *testing.F) {
	f.Add([]byte(elfFile(62, glibc, "liba.so", "libb.so")))
	f.Add([]byte("#!/usr/bin/env -S a=b python\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "x"), data, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(dir, "lib64"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, glibc), data, 0o755); err != nil {
			t.Fatal(err)
		}
		root, err := os.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		r := program.Examine(root, program.Options{Name: "/x"})
		if r.Kind == program.ELF != strings.HasPrefix(string(data), "\x7fELF") {
			t.Errorf("%q is %s", data, r.Kind)
		}
	})
}
