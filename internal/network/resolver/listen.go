package resolver

import (
	"errors"
	"fmt"
	"os"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"muelle/internal/linux/nft"
)

// The resolver listens on a high port, to which a rule of the namespace redirects
// port 53: so a container may itself bind 0.0.0.0:53.
const listenPort = 10053

// waiting is the size of the buffer, of which the kernel counts some 800 bytes for each lookup.
const waiting = 2 << 20

var address = [4]byte{127, 0, 0, 11}

// Listen makes the sockets and the redirection in the network namespace of the
// calling thread, whose loopback interface is up.
func Listen() (s Sockets, err error) {
	defer func() {
		if err != nil {
			s.Close()
			s = Sockets{}
		}
	}()
	if s[0], err = listen(unix.SOCK_DGRAM); err != nil {
		return s, fmt.Errorf("listen on 127.0.0.11 (udp): %w", err)
	}
	if s[1], err = listen(unix.SOCK_STREAM); err != nil {
		return s, fmt.Errorf("listen on 127.0.0.11 (tcp): %w", err)
	}
	if s[2], s[3], err = newSafe(); err != nil {
		return s, fmt.Errorf("make a safe for lookups: %w", err)
	}
	if err = redirect(); err != nil {
		return s, fmt.Errorf("redirect lookups: %w", err)
	}
	return s, nil
}

func listen(kind int) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrInet4{Port: listenPort, Addr: address})
	}
	if err == nil && kind == unix.SOCK_DGRAM {
		// What waits while the daemon is away: some thousands of lookups.
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, waiting)
		if errors.Is(err, unix.EPERM) { // the namespace is a user namespace's: the usual size then
			err = nil
		}
	}
	if err == nil && kind == unix.SOCK_STREAM {
		err = unix.Listen(fd, 128)
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	// Our own loop polls it; Go's must not.
	return rawFile(fd), nil
}

// redirect adds the rule `ip daddr 127.0.0.11 th dport 53 dnat to 127.0.0.11:10053`.
func redirect() error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	table := c.AddTable(&nftables.Table{Name: "muelle-dns", Family: nftables.TableFamilyIPv4})
	chain := c.AddChain(&nftables.Chain{
		Name: "output", Table: table, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityNATDest,
	})
	c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: nft.Rule(
		nft.To(address[:]), nft.ToPort(53), nft.DNAT(address[:], listenPort))})
	return c.Flush()
}
