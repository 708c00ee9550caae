package ruleset

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// Fate is what may become of a packet.
type Fate struct {
	// Passes: it may get through; Dropped: it may be dropped. Both are set where it
	// depends on what is not known of the packet.
	Passes, Dropped bool
	// By is the first chain that may drop it, nil where none does.
	By *Chain
	// Rule says which rule of which chain, or that it is the chain's policy.
	Rule string
	// Named: an interface of which only the beginning of the name was told was asked for
	// more of it, so that with another one the answer may be another.
	Named bool
	// Addressed: what may become of it hangs on bits of an address that are not known.
	Addressed bool
	// Reasons say what else it hangs on, in words that follow "depends on".
	Reasons []string
	// Let is the last rule that lets it through, Rate the first that counts and drops, or
	// does not let through, what is too much; empty where there is none.
	Let, Rate string
	// Tracking is what rules have left of it.
	Tracking Tracking
}

// Certain tells whether the packet is dropped whatever else is true of it.
func (f Fate) Certain() bool { return f.Dropped && !f.Passes }

// Ask sends a packet through the hooks. Every base chain of each is asked that skip,
// which may be nil, does not leave out.
func (r *Ruleset) Ask(p Packet, skip func(*Chain) bool, hooks ...Hook) Fate {
	return r.AskAlike(nil, p, skip, hooks...)
}

// AskAlike is Ask, and notes in alike, which may be nil, what of the values of p's fields
// that have a role the answer hangs on.
func (r *Ruleset) AskAlike(alike *Alike, p Packet, skip func(*Chain) bool, hooks ...Hook) Fate {
	s := &state{Packet: p, rules: r, mark: r.markAt(hooks), tracking: p.Tracking, asked: p, alike: alike}
	a := asking{state: s, skip: skip, fate: Fate{Passes: true}}
	for _, h := range hooks {
		switch {
		case (h == Ingress || h == Egress) && p.Within == "":
			a.link(h)
		case p.Within != "":
			a.meets(h, Bridge, p.In)
		default:
			a.meets(h, s.family(), p.In)
		}
	}
	fate := a.fate
	s.lost(&fate)
	fate.Tracking = s.tracking
	fate.Named, fate.Addressed, fate.Reasons, fate.Rate = s.named, s.hung.address, s.hung.reasons, s.rate
	return fate
}

// Translation tells of a rule that gives a packet another destination.
type Translation struct {
	By   *Chain
	Rule string
	// To is the destination, the zero value where the rule leaves it open.
	To netip.AddrPort
}

// Translated gives the rule that sends a packet elsewhere at prerouting, whatever else is
// true of it, unless skip, which may be nil, leaves out its base chain; nil: there is none.
func (r *Ruleset) Translated(p Packet, skip func(*Chain) bool) *Translation {
	s := &state{Packet: p, rules: r, hook: Prerouting, mark: known(native32(0))}
	for _, c := range r.at(Prerouting, s.family(), p.In) {
		if skip != nil && skip(c) || c.nat() && s.tracking != Tracked {
			continue
		}
		w := walk{state: s}
		if w.base(c) == translates {
			return &Translation{By: c, Rule: w.rule, To: w.to}
		}
	}
	return nil
}

// Translates tells whether any rule changes destinations at prerouting, or may.
func (r *Ruleset) Translates() bool {
	for _, c := range r.Chains {
		if c.Base && c.Hook == Prerouting && c.nat() {
			for _, one := range c.byName {
				if one.translates() {
					return true
				}
			}
		}
	}
	return false
}

// nat tells chains that only packets meet which the kernel follows.
func (c *Chain) nat() bool { return c.Type == "nat" || c.Legacy && c.Table == "nat" }

func (c *Chain) translates() bool {
	return slices.ContainsFunc(c.rules, func(r rule) bool {
		return r.legacy != nil && r.legacy.target == "DNAT" || slices.ContainsFunc(r.exprs, func(e expression) bool {
			return e.name == "nat" || e.name == "target" && e.text(unix.NFTA_TARGET_NAME) == "DNAT"
		})
	})
}

// outcome is a set of what may come out of a chain.
type outcome uint8

const (
	accepts outcome = 1 << iota
	drops
	falls      // to its end, or back
	translates // the destination, and accepts
)

// deepest is how far chains may jump; the kernel allows sixteen. patience is how many
// rules are asked before the answer is that it depends.
const (
	deepest  = 32
	patience = 1 << 20
)

// walk is the way of one packet through one base chain.
type walk struct {
	*state
	depth int
	steps int
	// registers are those of the rule that is evaluated.
	registers registers
	// rule is the last that may drop, or translate.
	rule string
	// let is the rule that lets through last, in the chain letBy; nil: none.
	letBy *Chain
	let   int
	// to is where the last rule that translates sends the packet, as far as it is known.
	to netip.AddrPort
	// base0 is the chain at the hook, at the rule that is asked. open: it is not known
	// whether a packet comes this far, which hangs on openHangs.
	base0     *Chain
	at        int
	open      bool
	openHangs hangs
}

func (w *walk) base(c *Chain) outcome {
	w.base0 = c
	out := w.chain(c)
	if out&falls == 0 {
		return out
	}
	out &^= falls
	if !c.Drops {
		return out | accepts
	}
	// Whatever rules may drop before, it is the policy that leaves no way.
	w.rule = "policy of " + c.String()
	return out | drops
}

// chain walks the rules until one decides for certain.
func (w *walk) chain(c *Chain) outcome {
	if w.depth++; w.depth > deepest {
		w.depth--
		return accepts | drops | falls
	}
	defer func() { w.depth-- }()
	var out outcome
	for i := range c.rules {
		if w.steps++; w.steps > patience {
			return accepts | drops | falls
		}
		w.at = i
		matches, v := w.evaluate(c, &c.rules[i])
		if matches == no {
			continue
		}
		open, before := w.open, w.openHangs
		if matches == maybe && v.kind != verdictContinue {
			w.open = true
			w.openHangs.add(w.hangs)
		}
		may, ends := w.follow(c, i, v)
		if may&^drops == 0 { // whoever goes on has come this far
			w.open, w.openHangs = open, before
		}
		out |= may
		if matches == yes && ends {
			return out
		}
	}
	return out | falls
}

// follow gives what a verdict may come to, and whether the chain's next rule is not
// asked any more then.
func (w *walk) follow(c *Chain, i int, v verdict) (may outcome, ends bool) {
	switch v.kind {
	case verdictAccept:
		w.letBy, w.let = c, i
		return accepts, true
	case verdictTranslate:
		w.rule = c.describe(i)
		return translates, true
	case verdictDrop:
		w.rule = c.describe(i)
		return drops, true
	case verdictReturn:
		return falls, true
	case verdictJump, verdictGoto:
		target := c.byName[v.chain]
		if target == nil {
			return accepts | drops | falls, false
		}
		may = w.chain(target)
		if v.kind == verdictGoto {
			return may, true
		}
		if may&falls == 0 {
			return may, true
		}
		return may &^ falls, false
	case verdictUnknown:
		// One of those of a map.
		if len(v.among) == 0 {
			return accepts | drops, false
		}
		ends = true
		for _, one := range v.among {
			m, e := w.follow(c, i, one)
			may |= m
			ends = ends && e
		}
		return may, false
	}
	return 0, false
}

func (c *Chain) describe(i int) string {
	r := c.rules[i]
	text := "rule " + strconv.Itoa(i+1) + " of " + c.String()
	if r.handle != 0 {
		text += fmt.Sprintf(" (handle %d)", r.handle)
	}
	if r.comment != "" {
		text += " " + strconv.Quote(r.comment)
	}
	return text
}

type verdictKind int

const (
	verdictContinue verdictKind = iota
	verdictAccept
	verdictDrop
	verdictReturn
	verdictJump
	verdictGoto
	verdictUnknown
	verdictTranslate
)

type verdict struct {
	kind  verdictKind
	chain string
	// among: one of these, or none.
	among []verdict
}
