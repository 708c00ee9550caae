package port

import (
	"runtime"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// filter is what a socket lets through, in both of the kernel's languages. A program of
// eBPF is translated once and then shared, which is quicker where there are many ports;
// the classic form is for kernels that refuse that.
type filter struct {
	classic []unix.SockFilter
	program []instruction
	load    sync.Once
	fd      int
}

// filters are those of a Book.
type filters struct{ deaf, onlyIPv6 *filter }

// instruction of eBPF, struct bpf_insn of linux/bpf.h: the registers are two nibbles,
// the destination's the lower one.
type instruction struct {
	code      uint8
	registers uint8
	offset    int16
	value     int32
}

// skbNetOff is SKF_NET_OFF: offsets from there on are into the network header.
const skbNetOff = -0x100000

// newDeaf makes a socket drop whatever reaches it: should the rules be gone for a
// moment, nobody gets a handshake, or fills a buffer, that no one will read.
func newDeaf() *filter {
	return &filter{
		classic: []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: 0}},
		program: []instruction{{code: movImmediate}, {code: exit}},
	}
}

// newOnlyIPv6 drops what comes by IPv4 only, which is the rules': the relay would ask
// itself. The first half of the network header's first byte is the version.
func newOnlyIPv6() *filter {
	return &filter{
		classic: []unix.SockFilter{
			{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: 1<<32 + skbNetOff},
			{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: 0xf0},
			{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: 0x60, Jf: 1},
			{Code: unix.BPF_RET | unix.BPF_K, K: 0xffffffff},
			{Code: unix.BPF_RET | unix.BPF_K, K: 0},
		},
		program: []instruction{
			{code: movRegister, registers: 1<<4 | 6}, // where the next one expects the packet
			{code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, value: skbNetOff},
			{code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, value: 0xf0},
			{code: jumpNotEqual, offset: 2, value: 0x60},
			{code: movImmediate, value: 1<<31 - 1},
			{code: exit},
			{code: movImmediate},
			{code: exit},
		},
	}
}

const (
	movImmediate = unix.BPF_ALU64 | unix.BPF_MOV | unix.BPF_K
	movRegister  = unix.BPF_ALU64 | unix.BPF_MOV | unix.BPF_X
	jumpNotEqual = unix.BPF_JMP | unix.BPF_JNE | unix.BPF_K
	exit         = unix.BPF_JMP | unix.BPF_EXIT
)

func (f *filter) attach(fd int) error {
	f.load.Do(func() { f.fd = load(f.program) })
	if f.fd >= 0 {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ATTACH_BPF, f.fd); err == nil {
			return nil
		}
	}
	prog := unix.SockFprog{Len: uint16(len(f.classic)), Filter: &f.classic[0]}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &prog)
}

// load gives a descriptor of the program, or -1.
func load(program []instruction) int {
	license := []byte("GPL\x00")
	// The beginning of union bpf_attr for BPF_PROG_LOAD.
	attr := struct {
		kind, count           uint32
		instructions, license uint64
		_                     [96]byte
	}{
		kind: unix.BPF_PROG_TYPE_SOCKET_FILTER, count: uint32(len(program)),
		instructions: uint64(uintptr(unsafe.Pointer(&program[0]))), license: uint64(uintptr(unsafe.Pointer(&license[0]))),
	}
	fd, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_LOAD, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	runtime.KeepAlive(program)
	runtime.KeepAlive(license)
	if errno != 0 {
		return -1
	}
	return int(fd)
}

// Deafen makes a held socket drop whatever reaches it, where its port is not to be had at
// an address of the host's. Hear makes it a relay's again.
func (k *Book) Deafen(b Binding) error { return k.filter(b, k.filters.deaf) }

// Hear undoes Deafen.
func (k *Book) Hear(b Binding) error {
	if b.Both {
		return k.filter(b, k.filters.onlyIPv6)
	}
	return k.filter(b, nil)
}

func (k *Book) filter(b Binding, f *filter) error {
	raw, err := b.File.SyscallConn()
	if err != nil {
		return err
	}
	var done error
	err = raw.Control(func(fd uintptr) {
		if f != nil {
			done = f.attach(int(fd))
		} else if done = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0); done == unix.ENOENT {
			done = nil // it had none
		}
	})
	if err == nil {
		err = done
	}
	return err
}
