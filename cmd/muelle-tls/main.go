// Command muelle-tls carries the log of one container to a syslog server over TLS; see
// internal/logdriver/secure. The container's shim starts it, with a socket as standard
// input.
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"
	"runtime/debug"

	"golang.org/x/sys/unix"

	"muelle/internal/logdriver/secure"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "muelle-tls:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	s, err := secure.Parse(args)
	if err != nil {
		return err
	}
	// What ends the daemon's session does not end the containers' logs; the shim's end does.
	signal.Ignore(unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM)
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return err
	}
	debug.SetGCPercent(20)
	c, err := net.FileConn(os.Stdin)
	if err != nil {
		return fmt.Errorf("standard input is not the shim's socket: %w", err)
	}
	os.Stdin.Close()
	in, ok := c.(*net.UnixConn)
	if !ok {
		return fmt.Errorf("standard input is not the shim's socket")
	}
	return secure.Run(context.Background(), s, in)
}
