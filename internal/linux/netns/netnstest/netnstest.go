// Package netnstest lets root tests run in network namespaces of their own, which
// stand for the host, so that the real host's rules, addresses, routes and sysctls
// never change.
package netnstest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

const mark = "MUELLE_TEST_HOST"

// Main is for TestMain: it runs the tests again in a fresh namespace, with its
// loopback down and forwarding off, and never returns.
func Main(m *testing.M) { main(m, 1) }

// MainApart is Main with a namespace for each test, of which several run at a time.
func MainApart(m *testing.M) { main(m, together) }

// together is how many tests run at a time: they wait, for what does not arrive, far
// more than they compute.
const together = 4

func main(m *testing.M, n int) {
	if os.Getenv(mark) != "" {
		// A new namespace takes this over from the host.
		if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("0"), 0); err != nil {
			fail(err)
		}
		os.Exit(m.Run())
	}
	if n > 1 {
		list, err := again()
		if err != nil {
			fail(err)
		}
		names, err := Names(list)
		if err != nil {
			fail(err)
		}
		if len(names) > 1 {
			os.Exit(apart(names, n))
		}
	}
	cmd, err := again(os.Args[1:]...)
	if err != nil {
		fail(err)
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	os.Exit(status(cmd.Run()))
}

// again is this program in a fresh namespace.
func again(args ...string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), mark+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	return cmd, nil
}

func status(err error) int {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	if err != nil {
		fail(err)
	}
	return 0
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "run tests in a network namespace:", err)
	os.Exit(1)
}
