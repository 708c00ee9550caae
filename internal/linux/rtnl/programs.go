package rtnl

import (
	"errors"
	"fmt"
	"strings"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Program is one that is attached to an interface and may drop what comes by it, or leaves
// by it. What it does cannot be read.
type Program struct {
	// Interface by name; of several below one another, that at which it is attached.
	Interface string
	// Leaving: it sees what leaves, else what comes.
	Leaving bool
	// Kind is "XDP program", or "tc filter", with the name that it was given, where it has one.
	Kind, Name string
}

// String is for messages, as "the XDP program guard on eth0".
func (p Program) String() string {
	text := "the " + p.Kind
	if p.Name != "" {
		text += " " + p.Name
	}
	return text + " on " + p.Interface
}

// Programs lists those that are attached in the calling thread's network namespace: XDP,
// and the filters of tc, which BPF's links (tcx) are too. Interfaces for which skip, which
// may be nil, says so are not asked about.
func Programs(skip func(name string) bool) ([]Program, error) {
	all, err := links()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	filtered, err := queues()
	if err != nil {
		return nil, err
	}
	var list []Program
	for _, l := range all {
		a := l.Attrs()
		if skip != nil && skip(a.Name) {
			continue
		}
		if a.Xdp != nil && a.Xdp.Attached {
			list = append(list, Program{Interface: a.Name, Kind: "XDP program", Name: nameOfProgram(a.Xdp.ProgId)})
		}
		for _, parent := range filtered[a.Index] {
			filters, err := dump(func() ([]netlink.Filter, error) { return netlink.FilterList(l, parent) })
			if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
				continue // it has just gone
			}
			if err != nil {
				return nil, fmt.Errorf("list filters of %s: %w", a.Name, err)
			}
			list = appendFilters(list, a.Name, parent, filters)
		}
		for attach, leaving := range map[uint32]bool{attachTCXIngress: false, attachTCXEgress: true} {
			for _, id := range attached(a.Index, attach) {
				list = append(list, Program{Interface: a.Name, Leaving: leaving, Kind: "tc filter", Name: nameOfProgram(id)})
			}
		}
	}
	return list, nil
}

// appendFilters adds the filters of one queue, each name once.
func appendFilters(list []Program, name string, parent uint32, filters []netlink.Filter) []Program {
	seen := map[Program]bool{}
	for _, f := range filters {
		p := Program{Interface: name, Leaving: parent != netlink.HANDLE_MIN_INGRESS, Kind: "tc filter", Name: f.Type()}
		if b, ok := f.(*netlink.BpfFilter); ok && b.Name != "" {
			p.Name = b.Name
		}
		if !seen[p] {
			seen[p] = true
			list = append(list, p)
		}
	}
	return list
}

// queues are, by the interface's index, the parents that may have filters.
func queues() (map[int][]uint32, error) {
	all, err := dump(func() ([]netlink.Qdisc, error) { return netlink.QdiscList(nil) })
	if err != nil {
		return nil, fmt.Errorf("list queueing disciplines: %w", err)
	}
	found := map[int][]uint32{}
	for _, q := range all {
		a := q.Attrs()
		switch kind := q.Type(); {
		case kind == "ingress":
			found[a.LinkIndex] = append(found[a.LinkIndex], netlink.HANDLE_MIN_INGRESS)
		case kind == "clsact":
			found[a.LinkIndex] = append(found[a.LinkIndex], netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS)
		case a.Handle != 0 && !strings.HasSuffix(kind, "fifo") && kind != "fq_codel" && kind != "noqueue" && kind != "mq":
			found[a.LinkIndex] = append(found[a.LinkIndex], a.Handle)
		}
	}
	return found, nil
}

// From linux/bpf.h: commands, and the places of programs on interfaces.
const (
	bpfProgGetFD      = 13
	bpfObjGetInfo     = 15
	bpfProgQuery      = 16
	attachTCXIngress  = 46
	attachTCXEgress   = 47
	infoBytes, nameAt = 80, 64 // of bpf_prog_info, as far as the end of its name
)

func callBPF(command uintptr, attr unsafe.Pointer, size uintptr) (int, error) {
	n, _, errno := unix.Syscall(unix.SYS_BPF, command, uintptr(attr), size)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// attached lists the ids of the programs at a place of an interface; a kernel that does not
// know the place has none there.
func attached(index int, place uint32) []uint32 {
	var ids [64]uint32
	attr := struct {
		target, place, query, flags uint32
		ids                         unsafe.Pointer
		count, _                    uint32
		flagsAt, linkIDs, linkFlags uint64
		revision                    uint64
	}{target: uint32(index), place: place, ids: unsafe.Pointer(&ids), count: uint32(len(ids))}
	if _, err := callBPF(bpfProgQuery, unsafe.Pointer(&attr), unsafe.Sizeof(attr)); err != nil {
		return nil
	}
	return ids[:min(int(attr.count), len(ids))]
}

// nameOfProgram is empty where it has none, or the kernel does not tell.
func nameOfProgram(id uint32) string {
	get := struct{ id, next, flags uint32 }{id: id}
	fd, err := callBPF(bpfProgGetFD, unsafe.Pointer(&get), unsafe.Sizeof(get))
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	var info [infoBytes]byte
	ask := struct {
		fd, size uint32
		info     unsafe.Pointer
	}{uint32(fd), infoBytes, unsafe.Pointer(&info)}
	if _, err := callBPF(bpfObjGetInfo, unsafe.Pointer(&ask), unsafe.Sizeof(ask)); err != nil {
		return ""
	}
	return unix.ByteSliceToString(info[nameAt:])
}
