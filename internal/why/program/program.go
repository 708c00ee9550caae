// Package program looks at the program that a container is to run, inside its root
// directory, and says why the kernel or the loader would not start it: the file, its
// interpreter or loader, its architecture, the libraries it needs. The root is a
// stranger's: nothing is followed out of it, little is read, nothing is executed.
package program

import (
	"bytes"
	"debug/elf"
	"errors"
	"io"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
)

// Kind is what a file is.
type Kind string

// Kinds of files.
const (
	Missing   Kind = "missing"
	Directory Kind = "directory"
	ELF       Kind = "ELF"
	Script    Kind = "script"
	Other     Kind = "other" // neither: no program, or a script without its first line
	Special   Kind = "special"
)

// Report is what was found.
type Report struct {
	// Name is what was asked for, Path where it was found.
	Name, Path string
	Searched   []string // the folders of PATH, where one was searched
	Similar    string   // where nothing was found: a program there of nearly that name
	Kind       Kind
	Executable bool // some permission to execute is given
	Mode       os.FileMode
	UID, GID   int

	// Arch is that of an ELF file, in Go's word; Foreign: not this machine's.
	Arch    string
	Foreign bool

	// Shebang is a script's first line, Interpreter the program it names or an ELF
	// file's loader, with a carriage return where the file has one.
	Shebang     string
	CRLF        bool
	Interpreter string
	// InterpreterMissing: it is not there. EnvMissing is the program that
	// "#!/usr/bin/env X" does not find.
	InterpreterMissing bool
	EnvMissing         string

	// Libraries are those that an ELF file or its libraries need and that are not in
	// the usual places.
	Libraries []Library
	// OtherLoader is a loader that is there, where Interpreter is not.
	OtherLoader string
}

// Library is one that was not found.
type Library struct{ Name, NeededBy string }

// Options say what to look for.
type Options struct {
	Name string   // of the program, as execve or a shell is given it
	Env  []string // of the process
	Cwd  string
	// Mounts are looked into where a path lies below one, the deepest first: what root
	// has there is not what the program sees. Empty where root has its mounts.
	Mounts []Mount
}

// Mount is a folder or file of the host that the container sees at another place.
type Mount struct{ At, Source string }

const (
	maxHead      = 512      // of a file: the kernel reads 256 bytes of a script
	maxLibraries = 128      // looked at
	maxFile      = 64 << 10 // a configuration file of the loader
	maxOpened    = 8192     // files looked for
)

var errTooMany = errors.New("too many files to look at")

// Examine looks at a program below root.
func Examine(root *os.File, o Options) *Report {
	x := &examination{root: root, env: o.Env, mounts: o.Mounts}
	r := &Report{Name: o.Name, Kind: Missing, UID: -1, GID: -1}
	for _, p := range x.candidates(o, r) {
		if x.look(r, p) {
			return r
		}
	}
	r.Similar = x.similar(o.Name, r.Searched)
	return r
}

type examination struct {
	root   *os.File
	env    []string
	mounts []Mount
	opened int
}

func (x *examination) getenv(name string) string {
	for _, kv := range slices.Backward(x.env) {
		if v, ok := strings.CutPrefix(kv, name+"="); ok {
			return v
		}
	}
	return ""
}

const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// candidates are the paths where a program may be.
func (x *examination) candidates(o Options, r *Report) []string {
	cwd := o.Cwd
	if cwd == "" {
		cwd = "/"
	}
	if strings.Contains(o.Name, "/") {
		if !path.IsAbs(o.Name) {
			return []string{path.Join(cwd, o.Name)}
		}
		return []string{path.Clean(o.Name)}
	}
	where := x.getenv("PATH")
	if where == "" {
		where = defaultPath
	}
	var out []string
	for dir := range strings.SplitSeq(where, ":") {
		if dir == "" {
			dir = "."
		}
		if !path.IsAbs(dir) {
			dir = path.Join(cwd, dir)
		}
		r.Searched = append(r.Searched, dir)
		out = append(out, path.Join(dir, o.Name))
	}
	return out
}

// open opens a file so that neither a pipe nor a device can do harm. There is an end
// to how many: an image may name as many folders as it likes, and files that include
// one another.
func (x *examination) open(name string) (*os.File, os.FileInfo, error) {
	if x.opened++; x.opened > maxOpened {
		return nil, nil, errTooMany
	}
	return x.openAnywhere(name)
}

func (x *examination) tooMany() bool { return x.opened > maxOpened }

func (x *examination) exists(name string) bool {
	f, info, err := x.open(name)
	if err != nil {
		return false
	}
	f.Close()
	return info.Mode().IsRegular()
}

// look fills in the report, if there is something of that name.
func (x *examination) look(r *Report, name string) bool {
	f, info, err := x.open(name)
	if err != nil {
		return false
	}
	defer f.Close()
	r.Path, r.Mode = name, info.Mode()
	r.Executable = info.Mode().Perm()&0o111 != 0
	if st, ok := owner(info); ok {
		r.UID, r.GID = int(st.Uid), int(st.Gid)
	}
	switch {
	case info.IsDir():
		r.Kind = Directory
		return len(r.Searched) == 0
	case !info.Mode().IsRegular():
		r.Kind = Special
		return true
	}
	head := make([]byte, maxHead)
	n, err := f.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		r.Kind = Other
		return true
	}
	switch head = head[:n]; {
	case bytes.HasPrefix(head, []byte(elf.ELFMAG)):
		r.Kind = ELF
		x.elf(r, f)
	case bytes.HasPrefix(head, []byte("#!")):
		r.Kind = Script
		x.script(r, head)
	default:
		r.Kind = Other
	}
	return true
}

// script reads the first line as the kernel does: an interpreter and at most one
// argument; a carriage return belongs to whichever comes last.
func (x *examination) script(r *Report, head []byte) {
	line, _, _ := bytes.Cut(head, []byte("\n"))
	r.Shebang = string(line)
	r.CRLF = strings.HasSuffix(r.Shebang, "\r")
	rest := strings.Trim(r.Shebang[2:], " \t")
	name, argument, _ := strings.Cut(rest, " ")
	r.Interpreter = name
	clean := strings.TrimSuffix(name, "\r")
	r.InterpreterMissing = !x.exists(clean) && !x.tooMany()
	argument = strings.TrimSuffix(strings.TrimSpace(argument), "\r")
	if path.Base(clean) == "env" && !r.InterpreterMissing {
		for word := range strings.FieldsSeq(argument) {
			if strings.HasPrefix(word, "-") || strings.Contains(word, "=") {
				continue
			}
			if !slices.ContainsFunc(x.candidates(Options{Name: word}, &Report{}), x.exists) && !x.tooMany() {
				r.EnvMissing = word
			}
			return
		}
	}
}

var machines = map[elf.Machine]string{
	elf.EM_X86_64: "amd64", elf.EM_AARCH64: "arm64", elf.EM_386: "386", elf.EM_ARM: "arm", elf.EM_RISCV: "riscv64",
	elf.EM_PPC64: "ppc64le", elf.EM_S390: "s390x", elf.EM_MIPS: "mips", elf.EM_LOONGARCH: "loong64",
}

// runs says whether this machine can run programs of that architecture.
func runs(arch string) bool {
	return arch == runtime.GOARCH || runtime.GOARCH == "amd64" && arch == "386" || runtime.GOARCH == "arm64" && arch == "arm"
}

func (x *examination) elf(r *Report, f *os.File) {
	// The two bytes are there in each class; a file that goes no further is told too.
	head := make([]byte, 20)
	if _, err := f.ReadAt(head, 0); err != nil {
		return
	}
	machine := elf.Machine(uint16(head[18]) | uint16(head[19])<<8)
	if head[5] == byte(elf.ELFDATA2MSB) {
		machine = elf.Machine(uint16(head[19]) | uint16(head[18])<<8)
	}
	r.Arch = machines[machine]
	if r.Arch == "" {
		r.Arch = strings.ToLower(strings.TrimPrefix(machine.String(), "EM_"))
	}
	if r.Foreign = !runs(r.Arch); r.Foreign {
		return
	}
	o, err := parseELF(f)
	if err != nil || o.interpreter == "" {
		return
	}
	r.Interpreter = o.interpreter
	r.InterpreterMissing = !x.exists(r.Interpreter) && !x.tooMany()
	if r.InterpreterMissing {
		r.OtherLoader = x.otherLoader(r.Interpreter)
		return
	}
	r.Libraries = x.libraries(o, r.Path, strings.Contains(r.Interpreter, "ld-musl"))
}

// loaders of the two C libraries.
var loaders = []string{
	"/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1", "/lib/ld-musl-x86_64.so.1", "/lib/ld-musl-aarch64.so.1",
}

func (x *examination) otherLoader(missing string) string {
	for _, l := range loaders {
		if l != missing && x.exists(l) {
			return l
		}
	}
	return ""
}
