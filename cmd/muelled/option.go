package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// class says what becomes of one of dockerd's options.
type class int

const (
	// works: it does here what it does in Docker.
	works class = iota
	// ignored: nothing here depends on it; it is taken, and the log says why it has no
	// effect.
	ignored
	// refused: Muelle cannot do what it asks for, and doing without would harm.
	refused
	// ours: dockerd has no such option.
	ours
)

func (c class) String() string {
	return [...]string{"works", "no effect, a line in the log", "refused", "Muelle's own"}[c]
}

// option is one flag of the daemon and its key in daemon.json; either may be empty.
type option struct {
	flag, short, key string
	class            class
	// fine are the values that an option which is refused may have: what they ask for
	// is what happens anyway.
	fine []string
	// why it has no effect or is refused, and what to do instead.
	why   string
	usage string
	// reload: SIGHUP takes the key's new value over.
	reload bool
	value  value
}

// value binds an option to its place in the configuration.
type value func(c *config, o *option) pflag.Value

// name is how the option is called in texts: its key, or its flag.
func (o *option) name() string {
	if o.key != "" {
		return o.key
	}
	return "--" + o.flag
}

// register defines the flags of every option that has one.
func (c *config) register(f *pflag.FlagSet) {
	for i := range options {
		o := &options[i]
		if o.flag == "" {
			continue
		}
		fl := f.VarPF(o.value(c, o), o.flag, o.short, o.usage)
		if b, ok := fl.Value.(interface{ IsBoolFlag() bool }); ok && b.IsBoolFlag() {
			fl.NoOptDefVal = "true"
		}
		if o.class == ignored || o.class == refused {
			// They are taken, but nobody is to learn of them from the help.
			fl.Hidden = true
		}
	}
}

// optionOf finds the option that a key of daemon.json belongs to.
func optionOf(key string) *option {
	i := slices.IndexFunc(options, func(o option) bool { return o.key == key })
	if i < 0 || key == "" {
		return nil
	}
	return &options[i]
}

// given is the value of an option that Muelle does nothing with, as it was written.
type given struct {
	option *option
	values []string
}

// judge refuses the first option whose value cannot be served.
func (c *config) judge() error {
	for _, g := range c.others {
		if g.option.class != refused {
			continue
		}
		for _, v := range g.values {
			if !slices.Contains(g.option.fine, v) {
				return fmt.Errorf("%s: %s is not supported: %s", g.option.name(), v, g.option.why)
			}
		}
	}
	return nil
}

// notices are the lines about what was given and has no effect.
func (c *config) notices() []string {
	var out []string
	for _, g := range c.others {
		if g.option.class == ignored {
			out = append(out, fmt.Sprintf("%s: %s has no effect: %s", g.option.name(), strings.Join(g.values, ", "), g.option.why))
		}
	}
	if c.Graph != "" {
		out = append(out, "graph: the option is called data-root now")
	}
	for _, r := range c.InsecureRegistries {
		if strings.Contains(r, "://") {
			out = append(out, fmt.Sprintf("insecure-registries: %s: a registry has no scheme, it is left out", r))
		}
	}
	return out
}

// other keeps an option that has no place in the configuration.
func (c *config) other(o *option, v string) {
	for i := range c.others {
		if c.others[i].option == o {
			c.others[i].values = append(c.others[i].values, v)
			return
		}
	}
	c.others = append(c.others, given{o, []string{v}})
}
