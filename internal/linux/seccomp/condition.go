package seccomp

import (
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/net/bpf"
)

var operators = map[specs.LinuxSeccompOperator]bool{
	specs.OpNotEqual: true, specs.OpLessThan: true, specs.OpLessEqual: true, specs.OpEqualTo: true,
	specs.OpGreaterEqual: true, specs.OpGreaterThan: true, specs.OpMaskedEqual: true,
}

// block returns the verdict if all conditions hold, and else falls out at its end.
type block struct {
	code  []bpf.Instruction
	fails []fail
}

// fail is a jump to the end of the block, whose distance is not known yet.
type fail struct {
	at     int
	onTrue bool
}

func (r *rule) block() []bpf.Instruction {
	b := &block{}
	for i := range r.args {
		b.condition(&r.args[i])
	}
	b.code = append(b.code, bpf.RetConstant{Val: r.ret})
	for _, f := range b.fails {
		j := b.code[f.at].(bpf.JumpIf)
		d := uint8(len(b.code) - f.at - 1)
		if f.onTrue {
			j.SkipTrue = d
		} else {
			j.SkipFalse = d
		}
		b.code[f.at] = j
	}
	return b.code
}

func (b *block) load(off uint32) {
	b.code = append(b.code, bpf.LoadAbsolute{Off: off, Size: 4})
}

// need jumps out of the block unless the comparison is as wanted.
func (b *block) need(c bpf.JumpTest, v uint32, want bool) {
	b.fails = append(b.fails, fail{len(b.code), !want})
	b.code = append(b.code, bpf.JumpIf{Cond: c, Val: v})
}

func (b *block) mask(m uint32) {
	b.code = append(b.code, bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: m})
}

// condition compares an argument of 64 bits by its two halves.
func (b *block) condition(a *specs.LinuxSeccompArg) {
	low := offArgs + uint32(a.Index)*8
	high := low + 4
	vl, vh := uint32(a.Value), uint32(a.Value>>32)
	switch a.Op {
	case specs.OpEqualTo:
		b.load(high)
		b.need(bpf.JumpEqual, vh, true)
		b.load(low)
		b.need(bpf.JumpEqual, vl, true)
	case specs.OpMaskedEqual:
		// Value is the mask, ValueTwo what must remain.
		b.load(high)
		b.mask(vh)
		b.need(bpf.JumpEqual, uint32(a.ValueTwo>>32), true)
		b.load(low)
		b.mask(vl)
		b.need(bpf.JumpEqual, uint32(a.ValueTwo), true)
	case specs.OpNotEqual:
		b.load(high)
		b.code = append(b.code, bpf.JumpIf{Cond: bpf.JumpEqual, Val: vh, SkipFalse: 2})
		b.load(low)
		b.need(bpf.JumpEqual, vl, false)
	case specs.OpLessThan:
		b.order(high, low, vh, vl, bpf.JumpLessThan, bpf.JumpLessThan)
	case specs.OpLessEqual:
		b.order(high, low, vh, vl, bpf.JumpLessThan, bpf.JumpLessOrEqual)
	case specs.OpGreaterThan:
		b.order(high, low, vh, vl, bpf.JumpGreaterThan, bpf.JumpGreaterThan)
	case specs.OpGreaterEqual:
		b.order(high, low, vh, vl, bpf.JumpGreaterThan, bpf.JumpGreaterOrEqual)
	}
}

// order: the high halves decide, and where they are equal the low ones.
func (b *block) order(high, low, vh, vl uint32, strict, loose bpf.JumpTest) {
	b.load(high)
	b.code = append(b.code, bpf.JumpIf{Cond: strict, Val: vh, SkipTrue: 3})
	b.need(bpf.JumpEqual, vh, true)
	b.load(low)
	b.need(loose, vl, true)
}
