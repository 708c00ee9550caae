package runflags

import (
	"fmt"
	"math/big"
	"slices"
	"sort"
	"strings"

	"github.com/docker/go-units"
)

// List is a flag that may be given several times; each value passes Check.
type List struct {
	Values []string
	Check  func(string) (string, error)
}

// Set appends a value.
func (l *List) Set(s string) error {
	if l.Check != nil {
		v, err := l.Check(s)
		if err != nil {
			return err
		}
		s = v
	}
	l.Values = append(l.Values, s)
	return nil
}

// String shows the values; nothing when there are none.
func (l *List) String() string {
	if len(l.Values) == 0 {
		return ""
	}
	return fmt.Sprint(l.Values)
}

// Type is the word in the help text.
func (*List) Type() string { return "list" }

// GetSlice makes the flag complete further values.
func (l *List) GetSlice() []string { return l.Values }

// Append and Replace are the rest of pflag's SliceValue.
func (l *List) Append(s string) error { return l.Set(s) }

// Replace sets all values at once.
func (l *List) Replace(all []string) error {
	l.Values = nil
	for _, s := range all {
		if err := l.Set(s); err != nil {
			return err
		}
	}
	return nil
}

func (l *List) has(s string) bool { return slices.Contains(l.Values, s) }

func (l *List) orEmpty() []string {
	if l.Values == nil {
		return []string{}
	}
	return l.Values
}

// Map is a flag of KEY=VALUE pairs.
type Map struct {
	Values map[string]string
	Check  func(string) (string, error)
}

// Set adds a pair.
func (m *Map) Set(s string) error {
	if m.Check != nil {
		v, err := m.Check(s)
		if err != nil {
			return err
		}
		s = v
	}
	if m.Values == nil {
		m.Values = map[string]string{}
	}
	k, v, _ := strings.Cut(s, "=")
	m.Values[k] = v
	return nil
}

// String shows the pairs.
func (m *Map) String() string {
	if len(m.Values) == 0 {
		return "map[]"
	}
	return fmt.Sprint(m.Values)
}

// Type is the word in the help text.
func (*Map) Type() string { return "map" }

func (m *Map) orEmpty() map[string]string {
	if m.Values == nil {
		return map[string]string{}
	}
	return m.Values
}

// Bytes is a flag like 64m; with Unlimited, -1 is allowed.
type Bytes struct {
	Value     int64
	Unlimited bool
}

// Set parses a size with binary units.
func (b *Bytes) Set(s string) error {
	if b.Unlimited && s == "-1" {
		b.Value = -1
		return nil
	}
	v, err := units.RAMInBytes(s)
	if err != nil {
		return err
	}
	b.Value = v
	return nil
}

// String shows the size; "0" hides the default.
func (b *Bytes) String() string {
	switch {
	case b.Value == 0:
		return "0"
	case b.Unlimited && b.Value == -1:
		return "-1"
	}
	return units.BytesSize(float64(b.Value))
}

// Type is the word in the help text.
func (*Bytes) Type() string { return "bytes" }

// CPUs is a number of processors with a fraction, kept in billionths.
type CPUs int64

// Set parses 1.5, 3/2 and the like.
func (c *CPUs) Set(s string) error {
	r, ok := new(big.Rat).SetString(s)
	if !ok {
		return fmt.Errorf("failed to parse %v as a rational number", s)
	}
	nano := r.Mul(r, big.NewRat(1e9, 1))
	if !nano.IsInt() {
		return fmt.Errorf("value is too precise")
	}
	*c = CPUs(nano.Num().Int64())
	return nil
}

// String shows the number.
func (c *CPUs) String() string {
	if *c == 0 {
		return ""
	}
	return big.NewRat(int64(*c), 1e9).FloatString(3)
}

// Type is the word in the help text.
func (*CPUs) Type() string { return "decimal" }

type ulimits struct{ values map[string]*units.Ulimit }

func (u *ulimits) Set(s string) error {
	l, err := units.ParseUlimit(s)
	if err != nil {
		return err
	}
	if u.values == nil {
		u.values = map[string]*units.Ulimit{}
	}
	u.values[l.Name] = l
	return nil
}

func (u *ulimits) String() string {
	out := []string{}
	for _, l := range u.list() {
		out = append(out, l.String())
	}
	return fmt.Sprint(out)
}

func (*ulimits) Type() string { return "ulimit" }

func (u *ulimits) list() []*units.Ulimit {
	out := []*units.Ulimit{}
	for _, l := range u.values {
		out = append(out, l)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out
}
