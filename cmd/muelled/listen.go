package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/coreos/go-systemd/v22/activation"
	"golang.org/x/sys/unix"

	"muelle/internal/remote"
	"muelle/internal/zone/exposure"
)

// listen opens every host that the daemon was told, or the default socket. On
// error none stays open.
func listen(c *config, p *places, log *slog.Logger) (all []net.Listener, err error) {
	defer func() {
		if err != nil {
			for _, l := range all {
				l.Close()
			}
			all = nil
		}
	}()
	hosts := c.Hosts
	if len(hosts) == 0 {
		hosts = []string{"unix://" + filepath.Join(p.exec, "muelle.sock")}
	}
	for _, host := range hosts {
		proto, addr := splitHost(host)
		var l net.Listener
		switch proto {
		case "unix":
			l, err = listenUnix(addr, c.Group, c.groupGiven)
		case "tcp":
			l, err = listenTCP(addr, c, log)
		case "fd":
			var given []net.Listener
			given, err = listenFD(addr)
			all = append(all, given...)
		default:
			err = errors.New("it must begin with unix://, tcp:// or fd://")
		}
		if err != nil {
			return all, fmt.Errorf("listen on %s: %w", host, err)
		}
		if l != nil {
			all = append(all, l)
		}
	}
	return all, nil
}

// tcpHosts are the addresses of TCP that are listened on, as far as they are said in
// numbers; a name is taken for this host's own.
func (c *config) tcpHosts() (list []exposure.API) {
	for _, host := range c.Hosts {
		proto, addr := splitHost(host)
		if proto != "tcp" {
			continue
		}
		name, port, err := net.SplitHostPort(c.withPort(addr))
		number, nerr := strconv.ParseUint(port, 10, 16)
		if err != nil || nerr != nil {
			continue // it was refused already
		}
		a, err := netip.ParseAddr(name)
		switch {
		case name == "":
			a = netip.IPv4Unspecified()
		case err != nil:
			a = netip.MustParseAddr("127.0.0.1")
		}
		addrs := []netip.Addr{a}
		if a.IsUnspecified() { // net.Listen takes both families then, whichever was said
			addrs = []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
		}
		for _, a := range addrs {
			list = append(list, exposure.API{Address: netip.AddrPortFrom(a, uint16(number)), Open: !c.TLSVerify})
		}
	}
	return list
}

// splitHost gives the protocol and the address; as in Docker it is tcp where nothing
// else is said; a path alone has none.
func splitHost(host string) (proto, addr string) {
	proto, addr, ok := strings.Cut(host, "://")
	if !ok && !strings.HasPrefix(host, "/") {
		return "tcp", host
	}
	return proto, addr
}

// checkHosts refuses what nobody can listen on, and what no registry can be, before
// anything is begun.
func (c *config) checkHosts() error {
	for _, host := range c.Hosts {
		if proto, addr := splitHost(host); proto != "unix" && proto != "tcp" && proto != "fd" {
			return fmt.Errorf("host %q: it must begin with unix://, tcp:// or fd://", host)
		} else if proto == "unix" && !filepath.IsAbs(addr) {
			return fmt.Errorf("host %q: %q is not an absolute path", host, addr)
		}
	}
	_, err := remote.New(remote.Options{Mirrors: c.RegistryMirrors, Insecure: c.InsecureRegistries})
	return err
}

// listenUnix makes a socket that root and the group may use; without the group,
// root alone. A socket that nobody answers on is what a killed daemon left.
func listenUnix(path, group string, groupGiven bool) (net.Listener, error) {
	if !filepath.IsAbs(path) {
		return nil, fmt.Errorf("%q is not an absolute path", path)
	}
	if c, err := net.Dial("unix", path); err == nil {
		c.Close()
		return nil, errors.New("another process answers there")
	}
	if fi, err := os.Lstat(path); err == nil {
		if fi.Mode()&os.ModeSocket == 0 {
			return nil, errors.New("something that is no socket is in its place")
		}
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o711); err != nil {
		return nil, err
	}
	mask := unix.Umask(0o177) // nobody else may connect before the owner is set
	l, err := net.Listen("unix", path)
	unix.Umask(mask)
	if err != nil {
		return nil, err
	}
	if err := grant(path, group, groupGiven); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

func grant(path, group string, groupGiven bool) error {
	if group == "" {
		return nil
	}
	gid, err := groupID(group)
	if err != nil {
		if groupGiven {
			return fmt.Errorf("group %s: %w", group, err)
		}
		return nil // no such group: root alone
	}
	if err := os.Chown(path, 0, gid); err != nil {
		return err
	}
	return os.Chmod(path, 0o660)
}

func groupID(group string) (int, error) {
	if n, err := strconv.Atoi(group); err == nil {
		return n, nil
	}
	g, err := user.LookupGroup(group)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(g.Gid)
}

// listenFD takes the sockets that systemd opened: all of them for fd:// or fd://*,
// or the one that is named.
func listenFD(name string) ([]net.Listener, error) {
	byName, err := activation.ListenersWithNames()
	if err != nil {
		return nil, err
	}
	var found []net.Listener
	for n, listeners := range byName {
		if name == "" || name == "*" || name == n {
			found = append(found, listeners...)
		}
	}
	if len(found) == 0 {
		return nil, errors.New("no sockets found via socket activation: make sure the service was started by systemd")
	}
	return found, nil
}

// listenMetrics opens the port of --metrics-addr, or none.
func (c *config) listenMetrics() (net.Listener, error) {
	if c.MetricsAddr == "" {
		return nil, nil
	}
	l, err := net.Listen("tcp", c.MetricsAddr)
	if err != nil {
		return nil, fmt.Errorf("metrics-addr: %w", err)
	}
	return l, nil
}
