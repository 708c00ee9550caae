//go:build root

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// screen is a client that a person uses: what is typed goes in by a
// pseudo-terminal, what is shown is kept.
type screen struct {
	t      *testing.T
	master *os.File
	slave  *os.File
	cmd    *exec.Cmd

	mu     sync.Mutex
	shown  string
	seen   int // how much of it expect has passed
	closed chan struct{}
}

// onTerminal starts a client on a terminal of its own.
func (c client) onTerminal(t *testing.T, rows, columns uint16, env []string, args ...string) *screen {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	fd := int(master.Fd())
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	term := &screen{t: t, master: master, slave: slave, cmd: c.command(ctx, args...), closed: make(chan struct{})}
	term.resize(rows, columns)
	term.cmd.Env = append(term.cmd.Env, env...)
	term.cmd.Stdin, term.cmd.Stdout, term.cmd.Stderr = slave, slave, slave
	term.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := term.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go term.read()
	t.Cleanup(func() {
		cancel()
		master.Close()
		slave.Close()
	})
	return term
}

func (term *screen) read() {
	defer close(term.closed)
	buf := make([]byte, 4096)
	for {
		n, err := term.master.Read(buf)
		term.mu.Lock()
		term.shown += string(buf[:n])
		term.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (term *screen) resize(rows, columns uint16) {
	term.t.Helper()
	if err := unix.IoctlSetWinsize(int(term.master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns}); err != nil {
		term.t.Fatal(err)
	}
}

func (term *screen) enter(keys string) {
	term.t.Helper()
	if _, err := term.master.WriteString(keys); err != nil {
		term.t.Fatal(err)
	}
}

// expect waits until text is shown behind what was expected before.
func (term *screen) expect(text string) {
	term.t.Helper()
	err := eventually(30*time.Second, func() error {
		term.mu.Lock()
		defer term.mu.Unlock()
		at := strings.Index(term.shown[term.seen:], text)
		if at < 0 {
			return fmt.Errorf("%q is not shown, but %q", text, term.shown[term.seen:])
		}
		term.seen += at + len(text)
		return nil
	})
	if err != nil {
		term.t.Fatal(err)
	}
}

// until types keys until text is shown: for what is not ready to read yet.
func (term *screen) until(keys, text string) {
	term.t.Helper()
	err := eventually(30*time.Second, func() error {
		term.enter(keys)
		term.mu.Lock()
		defer term.mu.Unlock()
		at := strings.LastIndex(term.shown[term.seen:], text)
		if at < 0 {
			return fmt.Errorf("%q is not shown, but %q", text, term.shown[term.seen:])
		}
		term.seen += at + len(text)
		return nil
	})
	if err != nil {
		term.t.Fatal(err)
	}
}

// raw waits until the client has the terminal for itself: before that Ctrl-C is meant
// for the client.
func (term *screen) raw() {
	term.t.Helper()
	if err := eventually(30*time.Second, func() error {
		attrs, err := unix.IoctlGetTermios(int(term.slave.Fd()), unix.TCGETS)
		if err == nil && attrs.Lflag&unix.ICANON != 0 {
			err = errors.New("the terminal is not raw")
		}
		return err
	}); err != nil {
		term.t.Fatal(err)
	}
}

// ends waits for the client's end with that exit status, and for the terminal to be
// as it was.
func (term *screen) ends(code int) {
	term.t.Helper()
	var exit *exec.ExitError
	if err := term.cmd.Wait(); err != nil && !errors.As(err, &exit) || term.cmd.ProcessState.ExitCode() != code {
		term.mu.Lock()
		defer term.mu.Unlock()
		term.t.Errorf("%v ended with %v, want status %d; shown: %q", term.cmd.Args, err, code, term.shown)
	}
	attrs, err := unix.IoctlGetTermios(int(term.slave.Fd()), unix.TCGETS)
	if err != nil || attrs.Lflag&unix.ICANON == 0 || attrs.Lflag&unix.ECHO == 0 {
		term.t.Errorf("%v left the terminal raw: %+v %v", term.cmd.Args, attrs, err)
	}
	term.slave.Close()
	<-term.closed
}
