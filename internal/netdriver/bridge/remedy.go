package bridge

import (
	"fmt"
	"strings"

	"muelle/internal/linux/ruleset"
)

// owner is whose rules a chain's are, as far as it shows.
type owner int

const (
	somebody owner = iota
	docker
	ufw
	firewalld
	iptables
)

// Owner names the program whose rules a chain of another firewall holds, "" where that
// does not show.
func Owner(c *ruleset.Chain) string {
	return map[owner]string{docker: "Docker", ufw: "ufw", firewalld: "firewalld", iptables: "iptables"}[ownerOf(c)]
}

func (t *trouble) owner() owner { return ownerOf(t.chain) }

func ownerOf(c *ruleset.Chain) owner {
	switch {
	// With its backend iptables the chains have names of their own, since 0.7 and before.
	case c.Table == "firewalld" || c.Sibling("FORWARD_ZONES") != nil || c.HasPrefix("FORWARD_IN_ZONES"):
		return firewalld
	case c.HasPrefix("ufw-") || c.HasPrefix("ufw6-"):
		return ufw
	case c.Base && c.JumpsTo(dockerUser):
		return docker
	case c.Legacy, c.Table == "filter" && c.Name == strings.ToUpper(c.Name):
		return iptables
	}
	return somebody
}

func ownedByFirewalld(rules *ruleset.Ruleset) bool {
	for _, c := range rules.Chains {
		if c.Base && ownerOf(c) == firewalld {
			return true
		}
	}
	return false
}

// remedy is the command that allows what the chain drops.
func (t *trouble) remedy() string {
	var commands []string
	for _, name := range wildcards(t.bridges) {
		commands = append(commands, t.commands(name)...)
	}
	if t.owner() == firewalld {
		commands = append(commands, "firewall-cmd --reload")
	}
	return strings.Join(commands, " && ")
}

// wildcards joins the bridges whose names we chose.
func wildcards(bridges []string) (list []string) {
	var prefixed bool
	for _, b := range bridges {
		if hasOurPrefix(b) {
			prefixed = true
		} else {
			list = append(list, b)
		}
	}
	if prefixed {
		list = append([]string{"mue*"}, list...)
	}
	return list
}

// commands for one bridge, or all whose names begin so.
func (t *trouble) commands(name string) (list []string) {
	plus := strings.ReplaceAll(name, "*", "+")
	each := func(in, out string) {
		if t.in {
			list = append(list, in)
		}
		if t.out {
			list = append(list, out)
		}
	}
	answers := "" // to the host come answers only; what containers begin stays the host's to allow
	switch t.owner() {
	case firewalld:
		return []string{"firewall-cmd --permanent --zone=trusted --add-interface=" + plus}
	case ufw:
		if t.chain.Hook != ruleset.Forward {
			each("ufw allow in on "+plus, "ufw allow out on "+plus)
			return list
		}
		each("ufw route allow in on "+plus, "ufw route allow out on "+plus)
	case docker, iptables:
		program, chain := t.program(), t.chain.Name
		if t.owner() == docker {
			chain = dockerUser
		}
		if t.chain.Hook == ruleset.Input {
			answers = " -m conntrack --ctstate ESTABLISHED,RELATED"
		}
		insert := program + " -I " + chain
		each(insert+" -i "+plus+answers+" -j ACCEPT", insert+" -o "+plus+" -j ACCEPT")
	default:
		if t.chain.Hook == ruleset.Input {
			answers = " ct state established,related"
		}
		insert := "nft insert rule " + t.chain.String()
		if t.chain.Family == ruleset.Bridge {
			return []string{insert + " accept"}
		}
		each(fmt.Sprintf("%s iifname %q%s accept", insert, name, answers), fmt.Sprintf("%s oifname %q accept", insert, name))
	}
	return list
}

func (t *trouble) program() string {
	name := "iptables"
	if t.chain.Family == ruleset.IP6 {
		name = "ip6tables"
	}
	if t.chain.Legacy {
		name += "-legacy"
	}
	if t.chain.Table != "filter" {
		name += " -t " + t.chain.Table
	}
	return name
}
