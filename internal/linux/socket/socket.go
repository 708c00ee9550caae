// Package socket lists the sockets of a network namespace that others may connect or
// send to, as /proc/net tells of them, and finds the processes that hold them.
package socket

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Listener is a socket of TCP or SCTP that listens, or one of UDP that is bound and not
// connected.
type Listener struct {
	Proto string // "tcp", "udp" or "sctp"
	// Addr is where it is bound; [::] usually means all of IPv4 as well.
	Addr  netip.AddrPort
	Inode uint64
}

// Listeners gives those of the calling thread's network namespace.
func Listeners() ([]Listener, error) { return listeners("/proc/thread-self/net/") }

// ListenersOf gives those of a process's network namespace.
func ListenersOf(pid int) ([]Listener, error) { return listeners(fmt.Sprintf("/proc/%d/net/", pid)) }

func listeners(dir string) (list []Listener, err error) {
	for _, proto := range []string{"tcp", "udp"} {
		for _, family := range []string{"", "6"} {
			f, err := os.Open(dir + proto + family)
			if errors.Is(err, os.ErrNotExist) {
				continue // without IPv6
			}
			if err != nil {
				return nil, fmt.Errorf("list sockets: %w", err)
			}
			found, err := Parse(f, proto)
			f.Close()
			if err != nil {
				return nil, fmt.Errorf("list sockets: read %s%s%s: %w", dir, proto, family, err)
			}
			list = append(list, found...)
		}
	}
	f, err := os.Open(dir + "sctp/eps")
	if errors.Is(err, os.ErrNotExist) {
		return list, nil // the kernel has not loaded SCTP
	}
	if err != nil {
		return nil, fmt.Errorf("list sockets: %w", err)
	}
	defer f.Close()
	found, err := ParseEndpoints(f)
	if err != nil {
		return nil, fmt.Errorf("list sockets: read %ssctp/eps: %w", dir, err)
	}
	return append(list, found...), nil
}

// ParseEndpoints reads /proc/net/sctp/eps: ENDPT SOCK STY SST HBKT LPORT UID INODE, and the
// addresses that the socket listens at.
func ParseEndpoints(r io.Reader) (list []Listener, err error) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 9 || fields[3] != "10" { // 10 is LISTEN
			continue
		}
		port, err := strconv.ParseUint(fields[5], 10, 16)
		inode, err2 := strconv.ParseUint(fields[7], 10, 64)
		if err != nil || err2 != nil || port == 0 || inode == 0 {
			continue
		}
		for _, text := range fields[8:] {
			if a, err := netip.ParseAddr(text); err == nil {
				list = append(list, Listener{"sctp", netip.AddrPortFrom(a.Unmap(), uint16(port)), inode})
			}
		}
	}
	return list, lines.Err()
}

// Parse reads a file such as /proc/net/tcp6. Sockets that wait for nobody are left out.
func Parse(r io.Reader, proto string) (list []Listener, err error) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 10 {
			continue
		}
		// 0A is LISTEN; 07 is what a UDP socket shows that has no peer.
		if proto == "tcp" && fields[3] != "0A" || proto != "tcp" && fields[3] != "07" {
			continue
		}
		addr, ok := parseAddr(fields[1])
		inode, err := strconv.ParseUint(fields[9], 10, 64)
		if ok && err == nil && inode != 0 && addr.Port() != 0 {
			list = append(list, Listener{proto, addr, inode})
		}
	}
	return list, lines.Err()
}

// parseAddr reads an address as /proc/net/tcp prints it, 0100007F:1F90: words of four
// bytes in the host's order, and the port.
func parseAddr(s string) (netip.AddrPort, bool) {
	addr, port, ok := strings.Cut(s, ":")
	b, err := hex.DecodeString(addr)
	n, err2 := strconv.ParseUint(port, 16, 16)
	if !ok || err != nil || err2 != nil || len(b)%4 != 0 {
		return netip.AddrPort{}, false
	}
	for word := range slices.Chunk(b, 4) {
		binary.NativeEndian.PutUint32(word, binary.BigEndian.Uint32(word))
	}
	a, ok := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(a.Unmap(), uint16(n)), ok
}

// Holder names the first process found that holds one of the sockets, as
// "nginx (pid 123)", or gives "".
func Holder(inodes ...uint64) string {
	wanted := map[string]bool{}
	for _, n := range inodes {
		wanted["socket:["+strconv.FormatUint(n, 10)+"]"] = true
	}
	if len(wanted) == 0 {
		return ""
	}
	links, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return ""
	}
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil && wanted[target] {
			pid := strings.Split(link, "/")[2]
			if comm, err := os.ReadFile("/proc/" + pid + "/comm"); err == nil {
				return fmt.Sprintf("%s (pid %s)", strings.TrimSpace(string(comm)), pid)
			}
		}
	}
	return ""
}
