package port

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Holder names the process of this network namespace that has the port, as
// "nginx (pid 123)", or gives "".
func Holder(e *TakenError) string {
	inodes := map[string]bool{}
	for _, family := range []string{"", "6"} {
		for _, inode := range sockets("/proc/thread-self/net/"+string(e.Proto)+family, e) {
			inodes["socket:["+inode+"]"] = true
		}
	}
	if len(inodes) == 0 {
		return ""
	}
	links, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return ""
	}
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil && inodes[target] {
			pid := strings.Split(link, "/")[2]
			comm, err := os.ReadFile("/proc/" + pid + "/comm")
			if err == nil {
				return fmt.Sprintf("%s (pid %s)", strings.TrimSpace(string(comm)), pid)
			}
		}
	}
	return ""
}

// sockets lists the inodes of sockets in the way of the port: listening, or for UDP bound.
func sockets(path string, e *TakenError) (inodes []string) {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 10 {
			continue
		}
		local, ok := parseLocal(fields[1])
		// 0A is LISTEN, 07 what a bound UDP or TCP socket shows.
		state := fields[3] == "0A" || fields[3] == "07"
		inTheWay := Overlap(local.Addr(), e.Host.Addr())
		if ok && state && local.Port() == e.Host.Port() && inTheWay && fields[9] != "0" {
			inodes = append(inodes, fields[9])
		}
	}
	return inodes
}

// Overlap tells whether two sockets bound to the addresses are in each other's way. One
// on [::] mostly takes the addresses of IPv4 too.
func Overlap(a, b netip.Addr) bool {
	switch {
	case a == b, a.Is6() && a.IsUnspecified(), b.Is6() && b.IsUnspecified():
		return true
	}
	return a.Is4() && b.Is4() && (a.IsUnspecified() || b.IsUnspecified())
}

// parseLocal reads an address as /proc/net/tcp prints it: words of four bytes, each
// in the host's order (little-endian on amd64 and arm64).
func parseLocal(s string) (netip.AddrPort, bool) {
	addr, port, ok := strings.Cut(s, ":")
	b, err := hex.DecodeString(addr)
	n, err2 := strconv.ParseUint(port, 16, 16)
	if !ok || err != nil || err2 != nil || len(b)%4 != 0 {
		return netip.AddrPort{}, false
	}
	for word := range slices.Chunk(b, 4) {
		slices.Reverse(word)
	}
	a, ok := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(a.Unmap(), uint16(n)), ok
}
