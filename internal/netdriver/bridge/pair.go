package bridge

import (
	"fmt"
	"strings"

	"github.com/google/nftables"

	"muelle/internal/linux/nft"
)

// pair puts our rules first into the chain: what comes from, or goes to, our
// bridges is accepted there and judged by our own table. They are in the form that
// iptables-nft understands.
func (f *firewall) pair(c *nftables.Conn, ch *nftables.Chain) error {
	f.foreign.paired = true
	rules, err := c.GetRules(ch.Table, ch)
	if err != nil {
		return err
	}
	want := map[string]nft.Expr{}
	for _, match := range f.matches() {
		want[f.comment()+match.text] = match.expr
	}
	changed := false
	for _, r := range rules {
		comment := nft.CommentOf(r)
		if _, ok := want[comment]; ok {
			delete(want, comment)
		} else if strings.HasPrefix(comment, f.comment()) { // a bridge that is gone
			changed = true
			if err := c.DelRule(r); err != nil {
				return err
			}
		}
	}
	if len(want) == 0 && !changed {
		return nil
	}
	for comment, match := range want {
		c.InsertRule(&nftables.Rule{Table: ch.Table, Chain: ch, Exprs: nft.Rule(match, nft.Counter(), nft.Accept()), UserData: nft.Comment(comment)})
	}
	return c.Flush()
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

// leaveForeign takes our rules out of others' chains.
func (f *firewall) leaveForeign() error {
	c, err := nft.New()
	if err != nil {
		return err
	}
	chains, err := c.ListChains()
	if err != nil {
		return fmt.Errorf("list nftables chains: %w", err)
	}
	ch := dockerUserChain(chains)
	f.foreign.docker = ch != nil
	if ch == nil {
		return nil
	}
	rules, err := c.GetRules(ch.Table, ch)
	if err != nil {
		return fmt.Errorf("list rules of %s: %w", ch.Name, err)
	}
	found := false
	for _, r := range rules {
		if strings.HasPrefix(nft.CommentOf(r), f.comment()) {
			found = true
			if err := c.DelRule(r); err != nil {
				return err
			}
		}
	}
	if !found {
		return nil
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("take rules out of %s: %w", dockerUser, err)
	}
	return nil
}
