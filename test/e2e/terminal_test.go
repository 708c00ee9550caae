//go:build root

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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
	err := eventually(10*time.Second, func() error {
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
	err := eventually(10*time.Second, func() error {
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
	if err := eventually(10*time.Second, func() error {
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

// A shell whose prompt nothing else prints.
var promptShell = []string{"sh", "-c", "PS1='at%your%service ' exec sh"}

const shellPrompt = "at%your%service "

//muelle:ring
func TestTerminalOfAPerson(t *testing.T) {
	forEach(t, func(t *testing.T, c client) {
		name := c.unique(t, "c")
		term := c.onTerminal(t, 33, 101, nil, append([]string{"run", "-it", "--name", name, "busybox"}, promptShell...)...)
		c.remove(t, name)
		term.expect(shellPrompt)
		term.until("stty size\n", "33 101")
		term.resize(40, 120)
		term.until("stty size\n", "40 120")
		term.enter("tty\n")
		term.expect("/dev/")
		term.enter("trap '' TSTP; sleep 1000; echo status $?\n")
		// What is typed before sleep has the terminal would end the shell's own line.
		if err := eventually(10*time.Second, func() error {
			if out := c.must(t, "exec", name, "ps"); !strings.Contains(out, "sleep 1000") {
				return fmt.Errorf("processes %s", out)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		term.enter("\x03")
		term.enter("\n")
		term.until("echo alive$((1+1))\n", "alive2")
		term.enter("exit 7\n")
		term.ends(7)
	})
}

// TestDetach: by Docker's keys, by keys of a flag, and by those of config.json; what
// looks like their beginning is passed on.
func TestDetach(t *testing.T) {
	forEach(t, func(t *testing.T, c client) {
		name := c.unique(t, "c")
		term := c.onTerminal(t, 24, 80, nil, append([]string{"run", "-it", "--name", name, "busybox"}, promptShell...)...)
		c.remove(t, name)
		term.expect(shellPrompt)
		term.enter("\x10\x11")
		term.ends(0)

		term = c.onTerminal(t, 20, 70, nil, "attach", "--detach-keys", "ctrl-a,x", name)
		term.until("stty size\n", "20 70")
		term.enter("cat -v\n\x10z\x01y\n")
		term.expect("^Pz^Ay")
		term.enter("\x01x")
		term.ends(1)

		config := t.TempDir()
		if err := os.WriteFile(filepath.Join(config, "config.json"), []byte(`{"detachKeys": "ctrl-b,q"}`), 0o600); err != nil {
			t.Fatal(err)
		}
		term = c.onTerminal(t, 20, 70, []string{"DOCKER_CONFIG=" + config}, "exec", "-it", name, "cat", "-v")
		term.until("a\x10z\n", "a^Pz")
		term.enter("\x02q")
		term.ends(1)

		term = c.onTerminal(t, 20, 70, nil, "attach", name)
		term.raw()
		term.enter("\x03")
		term.until("\n", shellPrompt)
		term.enter("exit 9\n")
		term.ends(9)

		term = c.onTerminal(t, 25, 77, nil, "start", "-ai", name)
		term.until("stty size\n", "25 77")
		term.enter("\x10\x11")
		term.ends(0)
	})
}

// TestSignalsArePassedOn: of a client without a terminal, to the container.
func TestSignalsArePassedOn(t *testing.T) {
	forEach(t, func(t *testing.T, c client) {
		for code, sig := range map[int]syscall.Signal{41: syscall.SIGINT, 42: syscall.SIGTERM, 43: syscall.SIGHUP, 44: syscall.SIGUSR1, 45: syscall.SIGQUIT} {
			name := c.unique(t, fmt.Sprint(code))
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			cmd := c.command(ctx, "run", "--rm", "--name", name, "busybox", "sh", "-c",
				`trap "exit 41" INT; trap "exit 42" TERM; trap "exit 43" HUP; trap "exit 44" USR1; trap "exit 45" QUIT; echo ready; while :; do sleep 0.05; done`)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if _, err := out.Read(make([]byte, 8)); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); cmd.ProcessState.ExitCode() != code {
				t.Errorf("%v: %v, want status %d", sig, err, code)
			}
		}
	})
}
