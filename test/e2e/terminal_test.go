//go:build root

package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

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
		if err := eventually(30*time.Second, func() error {
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

		term = c.onTerminal(t, 26, 78, []string{"DOCKER_CONFIG=" + config}, "attach", name)
		term.until("stty size\n", "26 78")
		term.enter("\x02q")
		term.ends(1)

		term = c.onTerminal(t, 27, 79, []string{"DOCKER_CONFIG=" + config}, append([]string{"run", "--rm", "-it", "--name", name + "-keys", "busybox"}, promptShell...)...)
		c.remove(t, name+"-keys")
		term.expect(shellPrompt)
		term.enter("\x02q")
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
