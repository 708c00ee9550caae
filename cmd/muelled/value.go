package main

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	containertypes "github.com/moby/moby/api/types/container"
	"github.com/spf13/pflag"
)

// bound is the pflag.Value of an option: text in, a field of config out.
type bound struct {
	set    func(string) error
	show   func() string
	kind   string
	isBool bool
}

func (b *bound) Set(s string) error { return b.set(s) }
func (b *bound) String() string     { return b.show() }
func (b *bound) Type() string       { return b.kind }
func (b *bound) IsBoolFlag() bool   { return b.isBool }

func text(field func(*config) *string, def string) value {
	return func(c *config, _ *option) pflag.Value {
		p := field(c)
		*p = def
		return &bound{set: func(s string) error { *p = s; return nil }, show: func() string { return *p }, kind: "string"}
	}
}

func boolean(field func(*config) *bool, def bool) value {
	return func(c *config, _ *option) pflag.Value {
		p := field(c)
		*p = def
		return &bound{set: func(s string) (err error) { *p, err = strconv.ParseBool(s); return err }, show: func() string { return strconv.FormatBool(*p) }, kind: "bool", isBool: true}
	}
}

func number(field func(*config) *int, def int) value {
	return func(c *config, _ *option) pflag.Value {
		p := field(c)
		*p = def
		return &bound{set: func(s string) (err error) { *p, err = strconv.Atoi(s); return err }, show: func() string { return strconv.Itoa(*p) }, kind: "int"}
	}
}

func list(field func(*config) *[]string) value {
	return func(c *config, _ *option) pflag.Value {
		p := field(c)
		return &bound{set: func(s string) error { *p = append(*p, s); return nil }, show: func() string { return fmt.Sprint(*p) }, kind: "list"}
	}
}

func addresses(field func(*config) *[]netip.Addr) value {
	return func(c *config, _ *option) pflag.Value {
		p := field(c)
		return &bound{set: func(s string) error {
			for part := range strings.SplitSeq(s, ",") {
				a, err := netip.ParseAddr(strings.TrimSpace(part))
				if err != nil {
					return fmt.Errorf("%s is not an ip address", part)
				}
				*p = append(*p, a)
			}
			return nil
		}, show: func() string { return fmt.Sprint(*p) }, kind: "ip"}
	}
}

func address(field func(*config) *netip.Addr) value {
	return func(c *config, _ *option) pflag.Value {
		p := field(c)
		show := func() string {
			if !p.IsValid() {
				return ""
			}
			return p.String()
		}
		return &bound{set: func(s string) (err error) {
			if *p = (netip.Addr{}); s == "" {
				return nil
			}
			if *p, err = netip.ParseAddr(s); err != nil {
				return fmt.Errorf("%s is not an ip address", s)
			}
			return nil
		}, show: show, kind: "ip"}
	}
}

func texts(field func(*config) *map[string]string) value {
	return func(c *config, _ *option) pflag.Value {
		p := field(c)
		return &bound{set: func(s string) error {
			k, v, _ := strings.Cut(s, "=")
			if *p == nil {
				*p = map[string]string{}
			}
			(*p)[k] = v
			return nil
		}, show: func() string { return fmt.Sprint(*p) }, kind: "map"}
	}
}

// plain binds a field that is a pflag.Value already.
func plain(field func(*config) pflag.Value) value {
	return func(c *config, _ *option) pflag.Value { return field(c) }
}

// anything takes whatever an option without a place is given.
func anything(c *config, o *option) pflag.Value {
	return &bound{set: func(s string) error { c.other(o, s); return nil }, show: c.shown(o), kind: "string"}
}

// anyBool is anything for flags that need no value.
func anyBool(c *config, o *option) pflag.Value {
	return &bound{set: func(s string) error {
		on, err := strconv.ParseBool(s)
		if err == nil {
			c.other(o, strconv.FormatBool(on))
		}
		return err
	}, show: c.shown(o), kind: "bool", isBool: true}
}

// shown tells the values given to an option without a place.
func (c *config) shown(o *option) func() string {
	return func() string {
		i := slices.IndexFunc(c.others, func(g given) bool { return g.option == o })
		if i < 0 {
			return ""
		}
		return strings.Join(c.others[i].values, " ")
	}
}

// addressPool is one of default-address-pools.
type addressPool struct {
	Base netip.Prefix `json:"base"`
	Size int          `json:"size"`
}

func (p addressPool) check() error {
	if !p.Base.IsValid() || p.Size < p.Base.Bits() || p.Size > p.Base.Addr().BitLen() {
		return fmt.Errorf("default-address-pools: a size of %d does not fit base %s", p.Size, p.Base)
	}
	return nil
}

// poolsFlag collects --default-address-pool base=CIDR,size=N.
type poolsFlag []addressPool

// Set adds one pool.
func (p *poolsFlag) Set(text string) error {
	var pool addressPool
	for _, field := range strings.Split(text, ",") {
		key, value, _ := strings.Cut(field, "=")
		var err error
		switch key {
		case "base":
			pool.Base, err = netip.ParsePrefix(value)
		case "size":
			pool.Size, err = strconv.Atoi(value)
		default:
			err = fmt.Errorf("unknown key %q", key)
		}
		if err != nil {
			return err
		}
	}
	*p = append(*p, pool)
	return nil
}

// String gives the pools as they were written.
func (p *poolsFlag) String() string {
	var out []string
	for _, pool := range *p {
		out = append(out, fmt.Sprintf("base=%s,size=%d", pool.Base, pool.Size))
	}
	return strings.Join(out, " ")
}

// Type is the word in the help text.
func (p *poolsFlag) Type() string { return "pool-options" }

// size is a number of bytes, or a text as "64M".
type size int64

// Set reads a text as "64M".
func (s *size) Set(text string) error {
	n, err := units.RAMInBytes(text)
	*s = size(n)
	return err
}

// String writes the number with a unit.
func (s *size) String() string { return units.BytesSize(float64(*s)) }

// Type is the word in the help text.
func (s *size) Type() string { return "bytes" }

// UnmarshalJSON takes both forms, as Docker does.
func (s *size) UnmarshalJSON(b []byte) error {
	var text string
	if json.Unmarshal(b, &text) == nil {
		return s.Set(text)
	}
	return json.Unmarshal(b, (*int64)(s))
}

// ulimits are the default ulimits of containers by name.
type ulimits map[string]*containertypes.Ulimit

// Set adds one, written as nofile=1024:2048.
func (u *ulimits) Set(text string) error {
	l, err := units.ParseUlimit(text)
	if err != nil {
		return err
	}
	if *u == nil {
		*u = ulimits{}
	}
	(*u)[l.Name] = l
	return nil
}

// String lists them.
func (u *ulimits) String() string {
	var out []string
	for _, l := range u.sorted() {
		out = append(out, l.String())
	}
	return fmt.Sprint(out)
}

// Type is the word in the help text.
func (u *ulimits) Type() string { return "ulimit" }

func (u *ulimits) sorted() []*containertypes.Ulimit {
	var out []*containertypes.Ulimit
	for name, l := range *u {
		if l == nil {
			continue
		}
		c := *l
		if c.Name == "" {
			c.Name = name
		}
		out = append(out, &c)
	}
	slices.SortFunc(out, func(a, b *containertypes.Ulimit) int { return strings.Compare(a.Name, b.Name) })
	return out
}
