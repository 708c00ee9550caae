package seccomp

import "github.com/opencontainers/runtime-spec/specs-go"

// architecture is one that this machine may execute.
type architecture struct {
	name    specs.Arch
	audit   uint32 // AUDIT_ARCH_…
	numbers map[string]uint32
	compat  string                   // the 32-bit one beside it
	x32     func() map[string]uint32 // a second ABI under the same audit number
}

var architectures = map[string]*architecture{
	"amd64": {name: specs.ArchX86_64, audit: 0xc000003e, numbers: numbersamd64, compat: "386", x32: numbersX32},
	"386":   {name: specs.ArchX86, audit: 0x40000003, numbers: numbers386},
	"arm64": {name: specs.ArchAARCH64, audit: 0xc00000b7, numbers: numbersarm64, compat: "arm"},
	"arm":   {name: specs.ArchARM, audit: 0x40000028, numbers: numbersarm},
}

// x32Own are the calls that have a number of their own in the x32 ABI, because
// their arguments hold pointers; all others have amd64's, with x32Bit.
var x32Own = map[string]uint32{
	"rt_sigaction": 512, "rt_sigreturn": 513, "ioctl": 514, "readv": 515, "writev": 516,
	"recvfrom": 517, "sendmsg": 518, "recvmsg": 519, "execve": 520, "ptrace": 521,
	"rt_sigpending": 522, "rt_sigtimedwait": 523, "rt_sigqueueinfo": 524, "sigaltstack": 525,
	"timer_create": 526, "mq_notify": 527, "kexec_load": 528, "waitid": 529,
	"set_robust_list": 530, "get_robust_list": 531, "vmsplice": 532, "move_pages": 533,
	"preadv": 534, "pwritev": 535, "rt_tgsigqueueinfo": 536, "recvmmsg": 537, "sendmmsg": 538,
	"process_vm_readv": 539, "process_vm_writev": 540, "setsockopt": 541, "getsockopt": 542,
	"io_setup": 543, "io_submit": 544, "execveat": 545, "preadv2": 546, "pwritev2": 547,
}

func numbersX32() map[string]uint32 {
	m := make(map[string]uint32, len(numbersamd64))
	for name, nr := range numbersamd64 {
		if own, ok := x32Own[name]; ok {
			nr = own
		}
		m[name] = nr | x32Bit
	}
	return m
}

// Name gives the name of a system call by its number, of an architecture in Go's
// word; empty: not known.
func Name(goarch string, number uint32) string {
	a := architectures[goarch]
	if a == nil {
		return ""
	}
	for name, nr := range a.numbers {
		if nr == number {
			return name
		}
	}
	return ""
}
