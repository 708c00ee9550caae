package bridge

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"muelle/internal/linux/nft"
	"muelle/internal/linux/xtables"
)

// foreign is what other firewalls on this host mean for our bridges. A drop in any
// base chain of the forward hook is final: no accept of ours undoes it.
type foreign struct {
	// docker: a chain DOCKER-USER is there.
	docker bool
	// paired: our two rules are in it.
	paired   bool
	warnings []string
	logged   map[string]bool
}

const dockerUser = "DOCKER-USER"

// inspectForeign looks for base chains that would drop the bridges' traffic. In
// DOCKER-USER, which is made for that, it puts a pair of rules; for the rest it
// keeps warnings. Called with the lock held, whenever something changed.
func (f *firewall) inspectForeign() {
	if err := f.lookAround(f.up && len(f.bridges) > 0); err != nil {
		f.log.Error("cannot look at other firewalls", "err", err)
	}
}

func (f *firewall) lookAround(act bool) error {
	c, err := nft.New()
	if err != nil {
		return err
	}
	chains, err := c.ListChains()
	if err != nil {
		return fmt.Errorf("list nftables chains: %w", err)
	}
	user := dockerUserChain(chains)
	hadDocker := f.foreign.docker
	f.foreign.docker, f.foreign.paired, f.foreign.warnings = user != nil, false, nil
	if act && f.guarded && hadDocker != f.foreign.docker {
		if err := f.replace(); err != nil {
			return err
		}
	}
	if user != nil && act {
		if err := f.pair(c, user); err != nil {
			return fmt.Errorf("add rules to %s: %w", dockerUser, err)
		}
	}
	for _, ch := range chains {
		// What DOCKER-USER accepts, the rest of Docker's table does not see.
		if !forwards(ch) || user != nil && ch.Table.Name == user.Table.Name && ch.Table.Family == user.Table.Family {
			continue
		}
		drops, err := f.drops(c, ch)
		if err != nil {
			return err
		}
		if drops {
			where := familyName(ch.Table.Family) + " " + ch.Table.Name + " " + ch.Name
			f.warn("firewall chain "+strconv.Quote(where), remedy(where, ch.Table.Name), act)
		}
	}
	return f.lookAtLegacy(act)
}

// lookAtLegacy looks at the tables of the old iptables, where we can only warn:
// nothing but its own program changes them without replacing the whole.
func (f *firewall) lookAtLegacy(act bool) error {
	filter, ok, err := xtables.Read()
	if err != nil || !ok || !filter.Drops || filter.Mentions("mue") {
		return err
	}
	chain := "FORWARD"
	if filter.Mentions("docker0") {
		chain = dockerUser
	}
	f.warn("policy of FORWARD in iptables-legacy", fmt.Sprintf("iptables-legacy -I %s -i mue+ -j ACCEPT && iptables-legacy -I %s -o mue+ -j ACCEPT", chain, chain), act)
	return nil
}

func dockerUserChain(chains []*nftables.Chain) *nftables.Chain {
	i := slices.IndexFunc(chains, func(c *nftables.Chain) bool {
		return c.Name == dockerUser && c.Table.Name == "filter" && c.Table.Family == nftables.TableFamilyIPv4
	})
	if i < 0 {
		return nil
	}
	return chains[i]
}

// forwards tells whether it is somebody else's base chain that IPv4 packets
// between our bridges and the world pass.
func forwards(c *nftables.Chain) bool {
	family := c.Table.Family
	return c.Hooknum != nil && *c.Hooknum == *nftables.ChainHookForward && c.Type == nftables.ChainTypeFilter &&
		(family == nftables.TableFamilyIPv4 || family == nftables.TableFamilyINet) && !isOurs(c.Table.Name)
}

// drops tells whether a chain drops what no rule of it accepted: by its policy or
// by an unconditional last rule (which is firewalld's way).
func (f *firewall) drops(c *nftables.Conn, ch *nftables.Chain) (bool, error) {
	if ch.Policy != nil && *ch.Policy == nftables.ChainPolicyDrop {
		// Rules like ours that the administrator has added already mend it.
		rules, err := c.GetRules(ch.Table, ch)
		if err != nil {
			return false, fmt.Errorf("list rules of %s: %w", ch.Name, err)
		}
		return !slices.ContainsFunc(rules, f.admits), nil
	}
	rules, err := c.GetRules(ch.Table, ch)
	if err != nil {
		return false, fmt.Errorf("list rules of %s: %w", ch.Name, err)
	}
	if len(rules) == 0 || slices.ContainsFunc(rules, f.admits) {
		return false, nil
	}
	for _, e := range rules[len(rules)-1].Exprs {
		switch e := e.(type) {
		case *expr.Counter, *expr.Log, *expr.Limit:
		case *expr.Verdict:
			return e.Kind == expr.VerdictDrop, nil
		case *expr.Reject:
			return true, nil
		default:
			return false, nil
		}
	}
	return false, nil
}

// admits recognises `iifname "mue*" accept` and the like.
func (f *firewall) admits(r *nftables.Rule) bool {
	var ours, accepts bool
	for _, e := range r.Exprs {
		switch e := e.(type) {
		case *expr.Cmp:
			ours = ours || e.Op == expr.CmpOpEq && strings.HasPrefix(string(e.Data), "mue")
		case *expr.Verdict:
			accepts = e.Kind == expr.VerdictAccept
		}
	}
	return ours && accepts
}

func (f *firewall) warn(what, remedy string, act bool) {
	text := fmt.Sprintf("the %s drops the containers' traffic; to allow it: %s", what, remedy)
	f.foreign.warnings = append(f.foreign.warnings, text)
	if act && !f.foreign.logged[text] {
		if f.foreign.logged == nil {
			f.foreign.logged = map[string]bool{}
		}
		f.foreign.logged[text] = true
		f.log.Warn(text)
	}
}

func familyName(f nftables.TableFamily) string {
	if f == nftables.TableFamilyINet {
		return "inet"
	}
	return "ip"
}

func remedy(where, table string) string {
	if table == "firewalld" {
		return "firewall-cmd --permanent --zone=trusted --add-interface=mue+ && firewall-cmd --reload"
	}
	return fmt.Sprintf(`nft insert rule %s iifname "mue*" accept && nft insert rule %s oifname "mue*" accept`, where, where)
}

// warnings looks again where nothing is up, since then nothing is watched.
func (f *firewall) warnings() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.up {
		if err := f.lookAround(false); err != nil {
			return []string{"cannot look at other firewalls: " + err.Error()}
		}
	}
	return slices.Clone(f.foreign.warnings)
}
