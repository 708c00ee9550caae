// Package xtables reads the filter table of the old iptables ("legacy"), which
// nftables does not show, to see whether it would drop forwarded packets. It only
// reads, and only a table that somebody has loaded already.
package xtables

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// From linux/netfilter_ipv4/ip_tables.h.
const (
	getInfo    = 64 // IPT_SO_GET_INFO
	getEntries = 65 // IPT_SO_GET_ENTRIES

	nameLen      = 32
	hookForward  = 2
	infoSize     = nameLen + 4 + 5*4 + 5*4 + 4 + 4
	underflowAt  = nameLen + 4 + 5*4
	sizeAt       = infoSize - 4
	entriesAt    = nameLen + 4 + 4 // padded to eight bytes
	targetOffset = 88              // of the target's offset in an entry
	targetHeader = 32
	dropVerdict  = -1 // -NF_DROP - 1
)

// Filter is what the table does to forwarded packets.
type Filter struct {
	// Drops: no rule having decided, they are dropped.
	Drops   bool
	entries []byte
}

// Mentions tells whether some rule names an interface that starts with prefix (or says it in a comment).
func (f Filter) Mentions(prefix string) bool { return bytes.Contains(f.entries, []byte(prefix)) }

// Read gives the table of the calling thread's network namespace, or false where
// there is none.
func Read() (Filter, bool, error) {
	names, err := os.ReadFile("/proc/thread-self/net/ip_tables_names")
	if err != nil || !slices.Contains(strings.Fields(string(names)), "filter") {
		return Filter{}, false, nil // without the file there are no tables
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return Filter{}, false, fmt.Errorf("open raw socket: %w", err)
	}
	defer unix.Close(fd)
	info := make([]byte, infoSize)
	copy(info, "filter")
	if err := getsockopt(fd, getInfo, info); err != nil {
		return Filter{}, false, fmt.Errorf("read iptables (legacy): %w", err)
	}
	size := binary.NativeEndian.Uint32(info[sizeAt:])
	table := make([]byte, entriesAt+int(size))
	copy(table, "filter")
	binary.NativeEndian.PutUint32(table[nameLen:], size)
	if err := getsockopt(fd, getEntries, table); err != nil {
		return Filter{}, false, fmt.Errorf("read rules of iptables (legacy): %w", err)
	}
	f := Filter{entries: table[entriesAt:]}
	f.Drops, err = policyDrops(f.entries, binary.NativeEndian.Uint32(info[underflowAt+4*hookForward:]))
	return f, err == nil, err
}

// policyDrops reads the entry that stands for the chain's policy.
func policyDrops(entries []byte, at uint32) (bool, error) {
	malformed := errors.New("read rules of iptables (legacy): malformed table")
	if uint64(at)+targetOffset+2 > uint64(len(entries)) {
		return false, malformed
	}
	entry := entries[at:]
	verdict := int(binary.NativeEndian.Uint16(entry[targetOffset:])) + targetHeader
	if verdict+4 > len(entry) {
		return false, malformed
	}
	return int32(binary.NativeEndian.Uint32(entry[verdict:])) == dropVerdict, nil
}

func getsockopt(fd, option int, buf []byte) error {
	size := uint32(len(buf))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.IPPROTO_IP, uintptr(option),
		uintptr(unsafe.Pointer(&buf[0])), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}
