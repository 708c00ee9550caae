// Package seccomp assembles the seccomp profile of an OCI document to a BPF
// program, without libseccomp. The kernel evaluates a filter for every system call
// number when it is installed, so the program is a search tree over runs of
// numbers with one verdict each, which installs in a fifth of the time that a
// linear list takes; conditions on arguments are small blocks at its leaves.
//
//go:generate go run gen.go
package seccomp

import (
	"encoding/binary"
	"fmt"
	"runtime"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Filter is a program as seccomp(2) takes it.
type Filter struct {
	// Program is struct sock_filter, one after the other, in this machine's order.
	Program []byte
	// Flags are SECCOMP_FILTER_FLAG_….
	Flags uint32
}

// Offsets in struct seccomp_data.
const (
	offNumber = 0
	offArch   = 4
	offArgs   = 16
)

// x32Bit marks system calls of the x32 ABI, which shares the architecture of amd64.
const x32Bit = 0x40000000

// Assemble translates a profile for this machine's architecture and those that the
// profile lists beside it.
func Assemble(p *specs.LinuxSeccomp) (*Filter, error) {
	flags, err := filterFlags(p.Flags)
	if err != nil {
		return nil, err
	}
	prog, err := Instructions(p, runtime.GOARCH)
	if err != nil {
		return nil, err
	}
	raw, err := bpf.Assemble(prog)
	if err != nil {
		return nil, err
	}
	if len(raw) > 4096 {
		return nil, fmt.Errorf("profile takes %d instructions, the kernel allows 4096", len(raw))
	}
	b := make([]byte, 0, len(raw)*8)
	for _, r := range raw {
		b = binary.NativeEndian.AppendUint16(b, r.Op)
		b = append(b, r.Jt, r.Jf)
		b = binary.NativeEndian.AppendUint32(b, r.K)
	}
	return &Filter{Program: b, Flags: flags}, nil
}

func filterFlags(in []specs.LinuxSeccompFlag) (flags uint32, err error) {
	if len(in) == 0 {
		// As other runtimes: the mitigation that the kernel would otherwise switch on
		// costs more than it gives.
		return unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW, nil
	}
	for _, f := range in {
		switch f {
		case specs.LinuxSeccompFlagLog:
			flags |= unix.SECCOMP_FILTER_FLAG_LOG
		case specs.LinuxSeccompFlagSpecAllow:
			flags |= unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW
		case "SECCOMP_FILTER_FLAG_TSYNC":
			// The process has one thread when the filter is set.
		default:
			return 0, fmt.Errorf("flag %s is not supported", f)
		}
	}
	return flags, nil
}

// verdict is what the kernel is told, by action and errno.
func verdict(a specs.LinuxSeccompAction, errno *uint) (uint32, error) {
	e := uint32(unix.EPERM)
	if errno != nil {
		if *errno > 4095 {
			return 0, fmt.Errorf("errno %d is out of range", *errno)
		}
		e = uint32(*errno)
	}
	switch a {
	case specs.ActAllow:
		return unix.SECCOMP_RET_ALLOW, nil
	case specs.ActErrno:
		return unix.SECCOMP_RET_ERRNO | e, nil
	case specs.ActTrap:
		return unix.SECCOMP_RET_TRAP, nil
	case specs.ActLog:
		return unix.SECCOMP_RET_LOG, nil
	case specs.ActTrace:
		return unix.SECCOMP_RET_TRACE | e, nil
	case specs.ActKill, specs.ActKillThread:
		return unix.SECCOMP_RET_KILL_THREAD, nil
	case specs.ActKillProcess:
		return unix.SECCOMP_RET_KILL_PROCESS, nil
	}
	return 0, fmt.Errorf("action %s is not supported", a)
}

// Instructions is the program for an architecture by Go's name, before encoding;
// tests simulate it.
func Instructions(p *specs.LinuxSeccomp, goarch string) ([]bpf.Instruction, error) {
	native, ok := architectures[goarch]
	if !ok {
		return nil, fmt.Errorf("architecture %s is unknown", goarch)
	}
	listed := map[specs.Arch]bool{}
	for _, a := range p.Architectures {
		listed[a] = true
	}
	prog := []bpf.Instruction{bpf.LoadAbsolute{Off: offArch, Size: 4}}
	section, err := native.section(p, listed)
	if err != nil {
		return nil, err
	}
	prog = append(prog, onArch(native.audit, section)...)
	if native.compat != "" {
		compat := architectures[native.compat]
		if listed[compat.name] {
			if section, err = compat.section(p, listed); err != nil {
				return nil, err
			}
			prog = append(prog, onArch(compat.audit, section)...)
		}
	}
	// An architecture that the profile does not list is not let through, whatever
	// the default is.
	return append(prog, bpf.RetConstant{Val: unix.SECCOMP_RET_KILL_PROCESS}), nil
}

func onArch(audit uint32, section []bpf.Instruction) []bpf.Instruction {
	return append([]bpf.Instruction{
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: audit, SkipTrue: 1},
		bpf.Jump{Skip: uint32(len(section))},
	}, section...)
}

// section decides by number; the accumulator holds anything.
func (a *architecture) section(p *specs.LinuxSeccomp, listed map[specs.Arch]bool) ([]bpf.Instruction, error) {
	table, err := newTable(p, a.numbers)
	if err != nil {
		return nil, err
	}
	tree := table.assemble()
	out := []bpf.Instruction{bpf.LoadAbsolute{Off: offNumber, Size: 4}}
	if a.x32 == nil {
		return append(out, tree...), nil
	}
	other := []bpf.Instruction{bpf.RetConstant{Val: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)}}
	if listed[specs.ArchX32] {
		x32, err := newTable(p, a.x32())
		if err != nil {
			return nil, err
		}
		other = x32.assemble()
	}
	out = append(out,
		bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: x32Bit, SkipTrue: 1},
		bpf.Jump{Skip: uint32(len(other))})
	return append(append(out, other...), tree...), nil
}
