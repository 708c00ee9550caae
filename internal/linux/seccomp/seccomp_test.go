package seccomp_test

import (
	"encoding/binary"
	"testing"

	profile "github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/net/bpf"

	"muelle/internal/linux/seccomp"
)

const (
	archAMD64 = 0xc000003e
	archX86   = 0x40000003
	archARM64 = 0xc00000b7
	archARM   = 0x40000028

	allow  = 0x7fff0000
	kill   = 0x80000000
	eperm  = 0x00050000 | 1
	enosys = 0x00050000 | 38
)

// call is struct seccomp_data.
type call struct {
	nr, arch uint32
	args     [6]uint64
}

// run simulates the kernel. The simulator reads words in network order, the kernel
// in its own: the data is laid out for the former, half by half as on a
// little-endian machine.
func run(t *testing.T, prog []bpf.Instruction, c call) uint32 {
	t.Helper()
	vm, err := bpf.NewVM(prog)
	if err != nil {
		t.Fatal(err)
	}
	b := binary.BigEndian.AppendUint32(nil, c.nr)
	b = binary.BigEndian.AppendUint32(b, c.arch)
	b = append(b, make([]byte, 8)...)
	for _, a := range c.args {
		b = binary.BigEndian.AppendUint32(b, uint32(a))
		b = binary.BigEndian.AppendUint32(b, uint32(a>>32))
	}
	v, err := vm.Run(b)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(v)
}

func docker(t *testing.T, caps ...string) *specs.LinuxSeccomp {
	t.Helper()
	p, err := profile.GetDefaultProfile(&specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: caps}}})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestDockerProfile(t *testing.T) {
	prog, err := seccomp.Instructions(docker(t, "CAP_CHOWN"), "amd64")
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		in   call
		want uint32
	}{
		{"read", call{nr: 0, arch: archAMD64}, allow},
		{"mount", call{nr: 165, arch: archAMD64}, eperm},
		{"unshare", call{nr: 272, arch: archAMD64}, eperm},
		{"clone3", call{nr: 435, arch: archAMD64}, enosys},
		{"clone as thread", call{nr: 56, arch: archAMD64, args: [6]uint64{0x3d0f00}}, allow},
		{"clone with user namespace", call{nr: 56, arch: archAMD64, args: [6]uint64{0x10000000 | 17}}, eperm},
		{"personality", call{nr: 135, arch: archAMD64, args: [6]uint64{0xffffffff}}, allow},
		{"personality of another kind", call{nr: 135, arch: archAMD64, args: [6]uint64{0x1234}}, eperm},
		{"unix socket", call{nr: 41, arch: archAMD64, args: [6]uint64{1}}, allow},
		{"vsock socket", call{nr: 41, arch: archAMD64, args: [6]uint64{40}}, eperm},
		{"newer than the profile", call{nr: 4000, arch: archAMD64}, enosys},
		{"x32 read", call{nr: 0x40000000, arch: archAMD64}, allow},
		{"x32 execve", call{nr: 0x40000000 + 520, arch: archAMD64}, allow},
		{"x32 mount", call{nr: 0x40000000 + 165, arch: archAMD64}, eperm},
		{"x86 read", call{nr: 3, arch: archX86}, allow},
		{"x86 mount", call{nr: 21, arch: archX86}, eperm},
		{"x86 reboot", call{nr: 88, arch: archX86}, eperm},
		{"arm64 on amd64", call{nr: 63, arch: archARM64}, kill},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := run(t, prog, tt.in); got != tt.want {
				t.Errorf("got %#x, want %#x", got, tt.want)
			}
		})
	}
}

func TestARM64(t *testing.T) {
	p := docker(t)
	p.Architectures = []specs.Arch{specs.ArchAARCH64, specs.ArchARM}
	p.Syscalls = append(p.Syscalls, specs.LinuxSyscall{Names: []string{"breakpoint", "cacheflush", "set_tls"}, Action: specs.ActAllow})
	prog, err := seccomp.Instructions(p, "arm64")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		in   call
		want uint32
	}{
		{"read", call{nr: 63, arch: archARM64}, allow},
		{"mount", call{nr: 40, arch: archARM64}, eperm},
		{"arm read", call{nr: 3, arch: archARM}, allow},
		{"arm mount", call{nr: 21, arch: archARM}, eperm},
		{"arm cacheflush", call{nr: 0xf0002, arch: archARM}, allow},
		{"arm private call that is unknown", call{nr: 0xf0007, arch: archARM}, enosys},
		{"arm, newer than the profile", call{nr: 4000, arch: archARM}, enosys},
		{"amd64 on arm64", call{nr: 0, arch: archAMD64}, kill},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := run(t, prog, tt.in); got != tt.want {
				t.Errorf("got %#x, want %#x", got, tt.want)
			}
		})
	}
}

// TestEveryNumber compares the tree with a plain reading of the profile.
func TestEveryNumber(t *testing.T) {
	p := &specs.LinuxSeccomp{DefaultAction: specs.ActKillProcess, Architectures: []specs.Arch{specs.ArchX86_64}}
	want := map[uint32]uint32{}
	for i, name := range []string{"read", "write", "close", "mmap", "socket", "exit_group", "openat", "renameat2", "clone3"} {
		action, ret := specs.ActAllow, uint32(allow)
		if i%3 == 2 {
			action, ret = specs.ActErrno, eperm
		}
		p.Syscalls = append(p.Syscalls, specs.LinuxSyscall{Names: []string{name}, Action: action})
		nr := map[string]uint32{"read": 0, "write": 1, "close": 3, "mmap": 9, "socket": 41, "exit_group": 231, "openat": 257, "renameat2": 316, "clone3": 435}[name]
		want[nr] = ret
	}
	prog, err := seccomp.Instructions(p, "amd64")
	if err != nil {
		t.Fatal(err)
	}
	for nr := range uint32(600) {
		w, ok := want[nr]
		if !ok {
			w = kill
		}
		if got := run(t, prog, call{nr: nr, arch: archAMD64}); got != w {
			t.Errorf("call %d: got %#x, want %#x", nr, got, w)
		}
	}
}

func TestConditions(t *testing.T) {
	const big = 0x1_0000_0005
	values := []uint64{0, 4, 5, 6, big - 1, big, big + 1, 0xffff_ffff_ffff_ffff, 0x2_0000_0005, 0xffff_ffff}
	for op, holds := range map[specs.LinuxSeccompOperator]func(v, a uint64) bool{
		specs.OpEqualTo:      func(v, a uint64) bool { return v == a },
		specs.OpNotEqual:     func(v, a uint64) bool { return v != a },
		specs.OpLessThan:     func(v, a uint64) bool { return v < a },
		specs.OpLessEqual:    func(v, a uint64) bool { return v <= a },
		specs.OpGreaterThan:  func(v, a uint64) bool { return v > a },
		specs.OpGreaterEqual: func(v, a uint64) bool { return v >= a },
		specs.OpMaskedEqual:  func(v, a uint64) bool { return v&a == 5 },
	} {
		for _, a := range values {
			p := &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Architectures: []specs.Arch{specs.ArchX86_64}, Syscalls: []specs.LinuxSyscall{{
				Names: []string{"read"}, Action: specs.ActAllow,
				Args: []specs.LinuxSeccompArg{{Index: 2, Op: op, Value: a, ValueTwo: 5}, {Index: 0, Op: specs.OpEqualTo, Value: 1}},
			}}}
			prog, err := seccomp.Instructions(p, "amd64")
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range values {
				for _, first := range []uint64{0, 1} {
					want := uint32(eperm)
					if holds(v, a) && first == 1 {
						want = allow
					}
					if got := run(t, prog, call{nr: 0, arch: archAMD64, args: [6]uint64{first, 0, v}}); got != want {
						t.Errorf("%#x %s %#x with first argument %d: got %#x, want %#x", v, op, a, first, got, want)
					}
				}
			}
		}
	}
}

func TestAlternatives(t *testing.T) {
	p := &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Syscalls: []specs.LinuxSyscall{{
		Names: []string{"read"}, Action: specs.ActAllow,
		Args: []specs.LinuxSeccompArg{{Index: 0, Op: specs.OpEqualTo, Value: 1}, {Index: 0, Op: specs.OpEqualTo, Value: 2}},
	}}}
	prog, err := seccomp.Instructions(p, "amd64")
	if err != nil {
		t.Fatal(err)
	}
	for v, want := range []uint32{eperm, allow, allow, eperm} {
		if got := run(t, prog, call{nr: 0, arch: archAMD64, args: [6]uint64{uint64(v)}}); got != want {
			t.Errorf("argument %d: got %#x, want %#x", v, got, want)
		}
	}
	// The profile lists no other architecture.
	if got := run(t, prog, call{nr: 3, arch: archX86}); got != kill {
		t.Errorf("x86: got %#x", got)
	}
}

func TestRefused(t *testing.T) {
	bad := uint(5000)
	for name, p := range map[string]*specs.LinuxSeccomp{
		"action":   {DefaultAction: "SCMP_ACT_NOTIFY"},
		"errno":    {DefaultAction: specs.ActErrno, DefaultErrnoRet: &bad},
		"flag":     {DefaultAction: specs.ActAllow, Flags: []specs.LinuxSeccompFlag{"SECCOMP_FILTER_FLAG_NEW"}},
		"operator": {DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: []string{"read"}, Action: specs.ActErrno, Args: []specs.LinuxSeccompArg{{Op: "x"}}}}},
		"argument": {DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: []string{"read"}, Action: specs.ActErrno, Args: []specs.LinuxSeccompArg{{Index: 6, Op: specs.OpEqualTo}}}}},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := seccomp.Assemble(p); err == nil {
				t.Error("no error")
			}
		})
	}
}

func TestSize(t *testing.T) {
	f, err := seccomp.Assemble(docker(t, "CAP_CHOWN"))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(f.Program) / 8; n > 1000 {
		t.Errorf("Docker's profile takes %d instructions", n)
	} else {
		t.Logf("%d instructions", n)
	}
}

func BenchmarkAssemble(b *testing.B) {
	p, err := profile.GetDefaultProfile(&specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{}}})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := seccomp.Assemble(p); err != nil {
			b.Fatal(err)
		}
	}
}

func TestCache(t *testing.T) {
	var c seccomp.Cache
	first, err := c.Assemble(docker(t, "CAP_CHOWN"))
	if err != nil {
		t.Fatal(err)
	}
	if again, err := c.Assemble(docker(t, "CAP_CHOWN")); err != nil || again != first {
		t.Errorf("the same profile was assembled again: %v", err)
	}
	other := docker(t, "CAP_CHOWN")
	other.Syscalls[0].Names[0] = "mount"
	if f, err := c.Assemble(other); err != nil || f == first {
		t.Errorf("another profile got the same program: %v", err)
	}
}

func BenchmarkCached(b *testing.B) {
	p, err := profile.GetDefaultProfile(&specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{}}})
	if err != nil {
		b.Fatal(err)
	}
	var c seccomp.Cache
	for b.Loop() {
		if _, err := c.Assemble(p); err != nil {
			b.Fatal(err)
		}
	}
}
