package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Expectation is one sentence of x-expect:
//
//	FROM -> TO[:PORT][/tcp|/udp|/sctp]     must be reached
//	FROM !-> TO[:PORT][/tcp|/udp|/sctp]    must not
//
// FROM is a service, host, lan, internet, or * for every other service; TO a service,
// host, lan, internet, or a name or address outside. Without PORT any port is meant.
type Expectation struct {
	Text     string
	From, To string
	Reached  bool
	Protocol string
	Port     uint16 // 0: any
}

// Violation is an expectation that does not hold.
type Violation struct {
	Expectation
	// Who is the one of several that it does not hold for.
	Who string
	Why string
}

func (v Violation) String() string {
	what := "must be reached and is not"
	if !v.Reached {
		what = "must not be reached and is"
	}
	who := ""
	if v.Who != v.From {
		who = " by " + v.Who
	}
	return fmt.Sprintf("%s: %s%s: %s", v.Text, what, who, v.Why)
}

// Expect reads a sentence; members are the names that it may speak of.
func Expect(text string, members []string) (Expectation, error) {
	e := Expectation{Text: strings.Join(strings.Fields(text), " "), Protocol: "tcp", Reached: true}
	from, to, ok := strings.Cut(text, "->")
	if !ok {
		return e, fmt.Errorf("%q is not FROM -> TO[:PORT] or FROM !-> TO[:PORT]", text)
	}
	if f, not := strings.CutSuffix(from, "!"); not {
		from, e.Reached = f, false
	}
	e.From, e.To = strings.TrimSpace(from), strings.TrimSpace(to)
	if e.From == "" || e.To == "" || strings.ContainsAny(e.From+e.To, " \t\n") {
		return e, fmt.Errorf("%q is not FROM -> TO[:PORT] or FROM !-> TO[:PORT]", text)
	}
	if target, protocol, ok := strings.Cut(e.To, "/"); ok && slices.Contains([]string{"tcp", "udp", "sctp"}, protocol) {
		e.To, e.Protocol = target, protocol
	}
	if target, port, ok := cutPort(e.To); ok {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return e, fmt.Errorf("%q: %q is not a port", text, port)
		}
		e.To, e.Port = target, uint16(n)
	}
	return e, e.check(members)
}

// cutPort takes a port off, but not the end of an IPv6 address without brackets.
func cutPort(s string) (target, port string, ok bool) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 || strings.Count(s, ":") > 1 && !strings.HasSuffix(s[:max(i, 0)], "]") {
		return strings.Trim(s, "[]"), "", false
	}
	return strings.Trim(s[:i], "[]"), s[i+1:], true
}

func (e Expectation) check(members []string) error {
	words := append(slices.Clone(members), Host, LAN, Internet)
	if e.From != "*" && !slices.Contains(words, e.From) {
		return fmt.Errorf("%q: there is no service %q%s", e.Text, e.From, suggest(e.From, words...))
	}
	_, address := Prefix(e.To)
	name := strings.Contains(e.To, ".") && isName(strings.ToLower(e.To))
	if !slices.Contains(words, e.To) && !address && !name {
		return fmt.Errorf("%q: there is no service %q%s", e.Text, e.To, suggest(e.To, words...))
	}
	outside := func(s string) bool {
		return isOutside(s) || !slices.Contains(words, s) && s != "*"
	}
	switch {
	case e.From == e.To:
		return fmt.Errorf("%q: from and to are the same", e.Text)
	case outside(e.From) && outside(e.To):
		return fmt.Errorf("%q: one side must be a service; what is between %s and %s is not up to Muelle", e.Text, e.From, e.To)
	}
	return nil
}

// Expectations reads all sentences.
func Expectations(list []string, members []string) ([]Expectation, error) {
	var out []Expectation
	for _, s := range list {
		e, err := Expect(s, members)
		if err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	return out, nil
}

// Violations are the expectations that the model does not fulfil. What is expected of a
// service is expected of every replica.
func (w *World) Violations(list []Expectation) (bad []Violation) {
	for _, e := range list {
		targets := w.called(e.To)
		from := w.called(e.From)
		if e.From == "*" {
			from = nil
			for _, m := range w.Members {
				if m.Name != e.To && m.Of != e.To {
					from = append(from, m.Name)
				}
			}
		}
		for _, f := range from {
			for _, to := range targets {
				one := e
				one.To = to
				switch v := w.judge(f, one); {
				case e.Reached && v.ByHost:
					bad = append(bad, Violation{e, f, fmt.Sprintf("%s and %s share no network where they reach each other; there is a way by the host only: %s", f, to, v.Why)})
				case v.Allowed != e.Reached:
					bad = append(bad, Violation{e, f, v.Why})
				}
			}
		}
	}
	return bad
}

// called gives the members that a name of a sentence stands for; a name that is no
// member's stands for itself.
func (w *World) called(name string) (list []string) {
	for _, m := range w.Members {
		if m.Name == name || m.Of == name {
			list = append(list, m.Name)
		}
	}
	if len(list) == 0 {
		list = []string{name}
	}
	return list
}

func (w *World) judge(from string, e Expectation) Verdict {
	if to := w.Member(e.To); to != nil {
		return w.Reach(from, to, e.Protocol, e.Port)
	}
	m := w.Member(from)
	switch {
	case m == nil:
		return denied("nobody is called %s", from)
	case e.To == Host:
		return w.ToHost(m)
	}
	return w.Out(m, strings.ToLower(e.To))
}
