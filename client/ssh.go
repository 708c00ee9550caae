package client

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// sshCommand is what connects to the daemon of another machine: the system's ssh,
// which runs "muelle system dial-stdio" there. ssh://[USER@]HOST[:PORT][/SOCKET].
func sshCommand(host, remote string) ([]string, error) {
	invalid := func(why string) error { return fmt.Errorf("invalid SSH URL: %s", why) }
	u, err := url.Parse(host)
	if err != nil {
		return nil, invalid(err.Error())
	}
	name := u.Hostname()
	switch {
	case name == "":
		return nil, invalid("hostname is empty")
	case u.RawQuery != "" || u.Fragment != "":
		return nil, invalid("query parameters and fragments are not allowed")
	}
	args := []string{"ssh"}
	if u.User != nil {
		if _, ok := u.User.Password(); ok {
			return nil, invalid("plain-text password is not supported")
		}
		args = append(args, "-l", u.User.Username())
	}
	if p := u.Port(); p != "" {
		args = append(args, "-p", p)
	}
	// Names go into ProxyCommand and Match exec of the user's configuration, which a
	// shell reads there.
	for _, s := range []string{u.User.Username(), name} {
		if strings.HasPrefix(s, "-") || strings.ContainsFunc(s, unsafeForShell) {
			return nil, invalid(fmt.Sprintf("%q is neither a user's nor a host's name", s))
		}
	}
	if remote == "" {
		remote = "muelle"
	}
	there := remote + " system dial-stdio"
	if strings.Trim(u.Path, "/") != "" {
		there = remote + " --host=" + shellQuote("unix://"+u.Path) + " system dial-stdio"
	}
	return append(args, "-o", "ConnectTimeout=30", "-T", "--", name, there), nil
}

func unsafeForShell(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r > 127 || strings.ContainsRune("._-:%@+", r))
}

func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// commandConn is a connection whose other end is a program's standard input and
// output. A socket pair, not two pipes, so that it has deadlines and half-closes.
type commandConn struct {
	*net.UnixConn
	host   string
	name   string
	cmd    *exec.Cmd
	stderr *tail

	once  sync.Once
	ended chan struct{}
	err   error // of the program, valid once ended is closed
}

// dialCommand starts the program. It lives until the connection is closed.
func dialCommand(host string, args []string) (net.Conn, error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", host, err)
	}
	near, far := os.NewFile(uintptr(fds[0]), "ssh"), os.NewFile(uintptr(fds[1]), "ssh")
	defer far.Close()
	conn, err := net.FileConn(near)
	if err = errors.Join(err, near.Close()); err != nil {
		return nil, fmt.Errorf("connect to %s: %w", host, err)
	}
	c := &commandConn{UnixConn: conn.(*net.UnixConn), host: host, name: strings.Join(args, " "), cmd: exec.Command(args[0], args[1:]...), stderr: &tail{}, ended: make(chan struct{})}
	c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr = far, far, c.stderr
	// In a session of its own: Ctrl-C is for the container, not for the connection.
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := c.cmd.Start(); err != nil {
		return nil, errors.Join(&UnreachableError{Host: host, Err: err}, conn.Close())
	}
	go func() {
		c.err = c.cmd.Wait()
		close(c.ended)
	}()
	return c, nil
}

// exitPatience is how long a program that closed its end may take to tell why.
const exitPatience = 3 * time.Second

// Read reads what the program writes. Where it ended without success its own words
// are the error.
func (c *commandConn) Read(p []byte) (int, error) {
	n, err := c.UnixConn.Read(p)
	if n > 0 || err == nil || !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		return n, err
	}
	select {
	case <-c.ended:
	case <-time.After(exitPatience):
		return n, err
	}
	if c.err != nil {
		return n, c.failure()
	}
	return n, err
}

// Write writes to the program.
func (c *commandConn) Write(p []byte) (int, error) {
	n, err := c.UnixConn.Write(p)
	if err != nil && errors.Is(err, syscall.EPIPE) {
		select {
		case <-c.ended:
			if c.err != nil {
				return n, c.failure()
			}
		case <-time.After(exitPatience):
		}
	}
	return n, err
}

func (c *commandConn) failure() error {
	return &UnreachableError{Host: c.host, Err: fmt.Errorf("command [%s] has exited with %w, make sure the URL is valid and the program is installed on the remote host: stderr=%s", c.name, c.err, c.stderr)}
}

// Close ends the program too.
func (c *commandConn) Close() (err error) {
	c.once.Do(func() {
		err = c.UnixConn.Close()
		// ssh ends by itself when both ends are closed; one that hangs does not.
		select {
		case <-c.ended:
			return
		case <-time.After(100 * time.Millisecond):
		}
		_ = c.cmd.Process.Kill()
		<-c.ended
	})
	return err
}

// tail keeps the first of what a program says of its troubles.
type tail struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer; it never fails, so that the program is not stopped.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if room := 4096 - t.b.Len(); room > 0 {
		t.b.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

// String is what was said.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(t.b.String())
}
