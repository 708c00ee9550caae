// Package netnstest lets root tests run in a network namespace of their own, which
// stands for the host, so that the real host's rules, addresses, routes and sysctls
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
func Main(m *testing.M) {
	if os.Getenv(mark) != "" {
		// A new namespace takes this over from the host.
		if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("0"), 0); err != nil {
			fail(err)
		}
		os.Exit(m.Run())
	}
	self, err := os.Executable()
	if err != nil {
		fail(err)
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Env = append(os.Environ(), mark+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		os.Exit(exit.ExitCode())
	}
	if err != nil {
		fail(err)
	}
	os.Exit(0)
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "run tests in a network namespace:", err)
	os.Exit(1)
}
