package bridge

import (
	"errors"
	"fmt"
	"strings"

	"github.com/google/nftables"

	"muelle/internal/linux/nft"
	"muelle/internal/linux/ruleset"
)

// pair puts our rules first into DOCKER-USER of a family, and tells whether they were
// not there: what comes from, or goes to, our bridges is accepted there and judged by
// our own table. They are in the form that iptables-nft understands.
func (f *firewall) pair(family ruleset.Family) (changed bool, err error) {
	f.foreign.paired = true
	c, err := nft.New()
	if err != nil {
		return false, err
	}
	ch := userChain(family)
	rules, err := c.GetRules(ch.Table, ch)
	if err != nil {
		return false, err
	}
	want := map[string]nft.Expr{}
	for _, match := range f.matches() {
		want[f.comment()+match.text] = match.expr
	}
	for _, r := range rules {
		comment := nft.CommentOf(r)
		if _, ok := want[comment]; ok {
			delete(want, comment)
		} else if strings.HasPrefix(comment, f.comment()) { // a bridge that is gone
			changed = true
			if err := c.DelRule(r); err != nil {
				return false, err
			}
		}
	}
	if len(want) == 0 && !changed {
		return false, nil
	}
	for comment, match := range want {
		c.InsertRule(&nftables.Rule{Table: ch.Table, Chain: ch, Exprs: nft.Rule(match, nft.Counter(), nft.Accept()), UserData: nft.Comment(comment)})
	}
	return true, c.Flush()
}

func userChain(family ruleset.Family) *nftables.Chain {
	t := &nftables.Table{Name: "filter", Family: nftables.TableFamilyIPv4}
	if family == ruleset.IP6 {
		t.Family = nftables.TableFamilyIPv6
	}
	return &nftables.Chain{Name: dockerUser, Table: t}
}

type match struct {
	text string
	expr nft.Expr
}

// matches covers our bridges in both directions: by their common prefix, and those
// that were given a name one by one.
func (f *firewall) matches() []match {
	list := []match{{"from mue*", nft.IIFPrefix("mue")}, {"to mue*", nft.OIFPrefix("mue")}}
	for name := range f.bridges {
		if !hasOurPrefix(name) {
			list = append(list, match{"from " + name, nft.IIF(name)}, match{"to " + name, nft.OIF(name)})
		}
	}
	return list
}

// hasOurPrefix tells the names that the rules for "mue*" cover.
func hasOurPrefix(name string) bool { return strings.HasPrefix(name, "mue") }

// comment starts the comment of each of our rules in others' chains.
func (f *firewall) comment() string { return "added by " + f.name + ": " }

// leaveForeign takes what we added to others' rules out again.
func (f *firewall) leaveForeign() error {
	for bridge := range f.foreign.zoned {
		f.distrust(bridge)
	}
	rules, err := readForeign()
	if err != nil {
		return err
	}
	users := dockerUsers(rules)
	f.foreign.docker = len(users) > 0
	var errs []error
	for _, family := range users {
		if err := f.unpair(family); err != nil {
			errs = append(errs, fmt.Errorf("take rules out of %s: %w", dockerUser, err))
		}
	}
	return errors.Join(errs...)
}

func (f *firewall) unpair(family ruleset.Family) error {
	c, err := nft.New()
	if err != nil {
		return err
	}
	ch := userChain(family)
	rules, err := c.GetRules(ch.Table, ch)
	if err != nil {
		return err
	}
	for _, r := range rules {
		if strings.HasPrefix(nft.CommentOf(r), f.comment()) {
			if err := c.DelRule(r); err != nil {
				return err
			}
		}
	}
	return c.Flush()
}
