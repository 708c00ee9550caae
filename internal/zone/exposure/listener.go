package exposure

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"
)

// listener is a socket that takes what comes.
type listener struct {
	protocol string
	at       netip.AddrPort
	process  string
}

// States of sockets in /proc/net: a TCP socket that listens, a UDP socket that is
// connected to nobody.
const (
	stateListen = "0A"
	stateOpen   = "07"
)

// listeners are the sockets of processes of one network namespace, each once.
func listeners(pids []int) ([]listener, error) {
	owners := map[string]string{} // inode → process
	for _, pid := range pids {
		dir := "/proc/" + strconv.Itoa(pid)
		entries, err := os.ReadDir(dir + "/fd")
		if err != nil {
			continue // it has just ended
		}
		comm, _ := os.ReadFile(dir + "/comm")
		for _, e := range entries {
			link, err := os.Readlink(dir + "/fd/" + e.Name())
			if err != nil {
				continue
			}
			if inode, ok := strings.CutPrefix(link, "socket:["); ok {
				owners[strings.TrimSuffix(inode, "]")] = strings.TrimSpace(string(comm))
			}
		}
	}
	if len(owners) == 0 {
		return nil, nil
	}
	var list []listener
	var errs []error
	for _, f := range []struct{ name, protocol, state string }{
		{"tcp", "tcp", stateListen}, {"tcp6", "tcp", stateListen}, {"udp", "udp", stateOpen}, {"udp6", "udp", stateOpen},
	} {
		data, err := os.ReadFile("/proc/thread-self/net/" + f.name)
		if errors.Is(err, os.ErrNotExist) {
			continue // no IPv6
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		found, err := parse(bytes.NewReader(data), f.state)
		if err != nil {
			errs = append(errs, fmt.Errorf("read /proc/net/%s: %w", f.name, err))
		}
		for _, s := range found {
			if process, ok := owners[s.inode]; ok {
				list = append(list, listener{f.protocol, s.at, process})
			}
		}
	}
	return list, errors.Join(errs...)
}

// socket is a line of /proc/net/tcp or its like.
type socket struct {
	at    netip.AddrPort
	inode string
}

// parse reads the sockets that are in a state.
func parse(r io.Reader, state string) (list []socket, err error) {
	lines := bufio.NewScanner(r)
	lines.Scan() // titles
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) < 10 {
			return list, fmt.Errorf("a line of %d words", len(f))
		}
		if f[3] != state {
			continue
		}
		at, err := parseAddress(f[1])
		if err != nil {
			return list, err
		}
		list = append(list, socket{at, f[9]})
	}
	return list, lines.Err()
}

// parseAddress reads 0100007F:1F90: the address in words of the host's order, the port.
func parseAddress(s string) (netip.AddrPort, error) {
	bad := fmt.Errorf("address %q", s)
	addr, port, ok := strings.Cut(s, ":")
	raw, err := hex.DecodeString(addr)
	if !ok || err != nil || len(raw) != 4 && len(raw) != 16 {
		return netip.AddrPort{}, bad
	}
	number, err := strconv.ParseUint(port, 16, 16)
	if err != nil {
		return netip.AddrPort{}, bad
	}
	for i := 0; i < len(raw); i += 4 {
		binary.NativeEndian.PutUint32(raw[i:], binary.BigEndian.Uint32(raw[i:]))
	}
	a, _ := netip.AddrFromSlice(raw)
	return netip.AddrPortFrom(a.Unmap(), uint16(number)), nil
}
