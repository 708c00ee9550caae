package ocirun

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"muelle/internal/runtime/native"
	"muelle/internal/shimapi"
	"muelle/internal/shimfile"
)

const self = "/proc/self/exe"

// sealing is a copy of the stage's binary under way: with a millisecond for two MiB it is
// the longest step of a creation, and needs nothing of the others.
type sealing struct {
	done chan struct{}
	file *os.File
	err  error
}

func sealStage() *sealing {
	s := &sealing{done: make(chan struct{})}
	go func() {
		s.file, s.err = stageBinary()
		close(s.done)
	}()
	return s
}

func (s *sealing) wait() (*os.File, error) {
	<-s.done
	return s.file, s.err
}

func (s *sealing) close() {
	if f, err := s.wait(); err == nil {
		f.Close()
	}
}

// stageBinary seals the shim that this program's file carries, or the one beside it.
func stageBinary() (*os.File, error) {
	if f, ok, err := sealCarried(); ok || err != nil {
		return f, err
	}
	path, err := os.Readlink(self)
	if err != nil {
		return nil, err
	}
	return native.SealFile(filepath.Join(filepath.Dir(path), shimapi.BinaryName))
}

// sealCarried seals the shim that this program's file carries, if it does.
func sealCarried() (_ *os.File, ok bool, err error) {
	f, err := os.Open(self)
	if err != nil {
		return nil, false, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, false, err
	}
	p, ok, err := shimfile.Carried(f, st.Size())
	if err != nil {
		return nil, false, fmt.Errorf("the file of this program %w", err)
	}
	if !ok {
		return nil, false, nil
	}
	sealed, err := native.Seal(f, p)
	return sealed, true, err
}

// BecomeShim replaces this program by the shim that its file carries, with the same
// arguments and environment: for who executes the file by the shim's name. It returns
// only an error.
func BecomeShim(args, env []string) error {
	// By hand, or by an engine that has followed the link, it would end without a word.
	if _, err := unix.GetsockoptInt(shimapi.ControlFD, unix.SOL_SOCKET, unix.SO_TYPE); err != nil {
		return fmt.Errorf("this is no command: muelled starts it beside each container, with a connection as descriptor %d. The OCI runtime in the same file is called %s", shimapi.ControlFD, programName)
	}
	f, ok, err := sealCarried()
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("this is %s and carries no %s: give it its own name back, or install both again", programName, shimapi.BinaryName)
	}
	defer f.Close()
	// By the path in /proc and not by execveat: syscall.Exec gives the limit of open files
	// back that Go raises for itself.
	path := "/proc/self/fd/" + strconv.Itoa(int(f.Fd()))
	for {
		if err := syscall.Exec(path, args, env); err != unix.EINTR {
			return fmt.Errorf("execute the %s in this file: %w", shimapi.BinaryName, err)
		}
	}
}
