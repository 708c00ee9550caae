package shim

import (
	"path"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"muelle/internal/linux/spawn"
	"muelle/internal/shimapi"
)

// Exit codes of a process that could not be started, as Docker's.
const (
	codeCannotRun = 126
	codeNotFound  = 127
	codeOther     = 128
)

func quote(s string) string { return strconv.Quote(s) }

// findProgram finds a name without a slash in the PATH of the process's own
// environment, below the container's root.
func findProgram(root int, p *shimapi.Process) (string, error) {
	if len(p.Args) == 0 || p.Args[0] == "" {
		return "", &failure{code: codeOther, text: "no command specified"}
	}
	name := p.Args[0]
	if strings.Contains(name, "/") {
		return name, nil
	}
	list := ""
	for _, e := range p.Env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			list = v
		}
	}
	var denied error
	for dir := range strings.SplitSeq(list, ":") {
		if !strings.HasPrefix(dir, "/") {
			if dir == "" {
				dir = "."
			}
			dir = path.Join("/", p.Cwd, dir)
		}
		file := path.Join(dir, name)
		st, err := statIn(root, file)
		switch {
		case err == unix.EACCES:
			denied = err
		case err != nil || st.Mode&unix.S_IFMT == unix.S_IFDIR:
		case st.Mode&0o111 == 0:
			denied = unix.EACCES
		default:
			return file, nil
		}
	}
	if denied != nil {
		return "", &failure{code: codeCannotRun, text: "exec: " + quote(name) + ": permission denied"}
	}
	return "", &failure{code: codeNotFound, text: "exec: " + quote(name) + ": executable file not found in $PATH"}
}

func statIn(root int, file string) (st unix.Stat_t, err error) {
	fd, err := openIn(root, file, unix.O_PATH, 0)
	if err != nil {
		return st, err
	}
	defer unix.Close(fd)
	err = unix.Fstat(fd, &st)
	return st, err
}

// start runs a finished list and words its failure as Docker does.
func start(p *spawn.Program, o spawn.Options, root int, m *shimapi.Process) (*spawn.Child, error) {
	return startBy(spawn.Start, p, o, root, m)
}

// startBy is start with another way to make the child.
func startBy(launch func(*spawn.Program, spawn.Options) (*spawn.Child, error), p *spawn.Program, o spawn.Options, root int, m *shimapi.Process) (*spawn.Child, error) {
	if err := p.Err(); err != nil {
		p.Discard()
		return nil, &failure{code: codeOther, text: "command, environment or path contains a NUL byte"}
	}
	c, err := launch(p, o)
	if err != nil {
		return nil, startFailure(err, root, m)
	}
	return c, nil
}

// startFailure words why a list did not come to its end.
func startFailure(err error, root int, m *shimapi.Process) error {
	e, ok := err.(*spawn.Error)
	if !ok {
		return err
	}
	switch {
	case e.Exec:
		return execFailure(root, m, e.Errno)
	case strings.HasSuffix(e.What, "working directory"):
		return cwdFailure(m.Cwd, e.Errno)
	case e.What == "clone" && e.Errno == unix.EAGAIN:
		return errNoProcess
	}
	return &failure{code: codeOther, text: e.What + ": " + e.Errno.Error()}
}

func cwdFailure(cwd string, errno syscall.Errno) error {
	code := codeOther
	switch errno {
	case unix.ENOENT:
		code = codeNotFound
	case unix.ENOTDIR, unix.EACCES:
		code = codeCannotRun
	case unix.ELOOP, unix.EXDEV:
		return &failure{code: code, text: "chdir to cwd (" + quote(cwd) + "): it leads out of the container"}
	}
	return &failure{code: code, text: "chdir to cwd (" + quote(cwd) + "): " + errno.Error()}
}

func execFailure(root int, m *shimapi.Process, errno syscall.Errno) error {
	name := m.Args[0]
	file := name
	if strings.Contains(name, "/") && !strings.HasPrefix(name, "/") {
		file = path.Join("/", m.Cwd, name)
	}
	st, statErr := statIn(root, file)
	switch errno {
	case unix.ENOENT:
		if strings.Contains(name, "/") && statErr != nil {
			return &failure{code: codeNotFound, text: "exec: " + quote(name) + ": stat " + name + ": no such file or directory"}
		}
		// The file is there: its interpreter or loader is not.
		return &failure{code: codeNotFound, text: "exec " + name + ": no such file or directory (its interpreter is missing)"}
	case unix.EACCES:
		if statErr == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
			return &failure{code: codeCannotRun, text: "exec: " + quote(name) + ": is a directory"}
		}
		return &failure{code: codeCannotRun, text: "exec: " + quote(name) + ": permission denied"}
	case unix.ENOTDIR:
		return &failure{code: codeCannotRun, text: "exec: " + quote(name) + ": stat " + name + ": not a directory"}
	}
	return &failure{code: codeCannotRun, text: "exec " + name + ": " + errno.Error()}
}
