package seccomp

import (
	"fmt"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// rule is a verdict under conditions, all of which must hold.
type rule struct {
	args []specs.LinuxSeccompArg
	ret  uint32
}

// run is a range of system call numbers, up to the next run, with the same rules;
// none means the default verdict.
type run struct {
	from  uint32
	rules []rule
}

// table is one architecture's part of a profile.
type table struct {
	def  uint32
	runs []run
}

// newTable sorts a profile's rules by number. Names that the architecture does not
// have are left out, as profiles list the calls of all of them.
func newTable(p *specs.LinuxSeccomp, numbers map[string]uint32) (*table, error) {
	def, err := verdict(p.DefaultAction, p.DefaultErrnoRet)
	if err != nil {
		return nil, err
	}
	rules := map[uint32][]rule{}
	for _, s := range p.Syscalls {
		ret, err := verdict(s.Action, s.ErrnoRet)
		if err != nil {
			return nil, err
		}
		alternatives, err := conditions(s.Args)
		if err != nil {
			return nil, err
		}
		for _, name := range s.Names {
			nr, ok := numbers[name]
			if !ok {
				continue
			}
			for _, args := range alternatives {
				rules[nr] = append(rules[nr], rule{args, ret})
			}
		}
	}
	t := &table{def: def, runs: []run{{}}}
	nrs := make([]uint32, 0, len(rules))
	for nr := range rules {
		nrs = append(nrs, nr)
	}
	slices.Sort(nrs)
	after := t.afterNewest(p, nrs)
	for i, nr := range nrs {
		t.put(nr, simplify(rules[nr]))
		if i+1 == len(nrs) || nrs[i+1] != nr+1 {
			t.put(nr+1, after(nr))
		}
	}
	return t, nil
}

// privateNumbers is where arm's own calls begin.
const privateNumbers = 0xf0000

// afterNewest tells what follows a run. Beyond everything that the profile knows
// it is ENOSYS: programs probe for new calls and take EPERM for a refusal, where
// ENOSYS lets them fall back.
func (t *table) afterNewest(p *specs.LinuxSeccomp, nrs []uint32) func(nr uint32) []rule {
	var newest uint32
	for _, nr := range nrs {
		if nr&^x32Bit < privateNumbers {
			newest = nr
		}
	}
	return func(nr uint32) []rule {
		if nr < newest || p.DefaultAction != specs.ActErrno {
			return nil
		}
		return []rule{{ret: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)}}
	}
}

// simplify drops what follows an unconditional rule, and what goes before it: it
// wins over conditional ones, as in libseccomp.
func simplify(rules []rule) []rule {
	for _, r := range rules {
		if len(r.args) == 0 {
			return []rule{r}
		}
	}
	return rules
}

// conditions gives the alternatives of a rule. Conditions on different arguments
// must all hold; several on the same argument are alternatives.
func conditions(args []specs.LinuxSeccompArg) ([][]specs.LinuxSeccompArg, error) {
	seen := map[uint]bool{}
	alternative := false
	for _, a := range args {
		if a.Index > 5 {
			return nil, fmt.Errorf("argument %d of a system call does not exist", a.Index)
		}
		if !operators[a.Op] {
			return nil, fmt.Errorf("operator %s is unknown", a.Op)
		}
		alternative = alternative || seen[a.Index]
		seen[a.Index] = true
	}
	if !alternative {
		return [][]specs.LinuxSeccompArg{args}, nil
	}
	var out [][]specs.LinuxSeccompArg
	for i := range args {
		out = append(out, args[i:i+1])
	}
	return out, nil
}

// put begins a run, unless it would only repeat the one before.
func (t *table) put(from uint32, rules []rule) {
	last := &t.runs[len(t.runs)-1]
	if last.from == from {
		last.rules = rules
		return
	}
	if !same(last.rules, rules) {
		t.runs = append(t.runs, run{from, rules})
	}
}

func same(a, b []rule) bool {
	if len(a) == 0 && len(b) == 0 {
		return true
	}
	return len(a) == 1 && len(b) == 1 && len(a[0].args)+len(b[0].args) == 0 && a[0].ret == b[0].ret
}

func (t *table) assemble() []bpf.Instruction { return t.tree(t.runs) }

// tree expects the number in the accumulator.
func (t *table) tree(runs []run) []bpf.Instruction {
	if len(runs) == 1 {
		return t.leaf(runs[0].rules)
	}
	m := len(runs) / 2
	left, right := t.tree(runs[:m]), t.tree(runs[m:])
	out := make([]bpf.Instruction, 0, len(left)+len(right)+2)
	if len(left) <= 255 {
		out = append(out, bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: runs[m].from, SkipTrue: uint8(len(left))})
	} else {
		out = append(out,
			bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: runs[m].from, SkipFalse: 1},
			bpf.Jump{Skip: uint32(len(left))})
	}
	return append(append(out, left...), right...)
}

func (t *table) leaf(rules []rule) []bpf.Instruction {
	var out []bpf.Instruction
	for _, r := range rules {
		out = append(out, r.block()...)
		if len(r.args) == 0 {
			return out
		}
	}
	return append(out, bpf.RetConstant{Val: t.def})
}
