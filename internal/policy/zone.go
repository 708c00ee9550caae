// Package policy is what zones mean, without a kernel: reading and checking what a
// network may do and what a project expects, and the model of who reaches whom.
package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"muelle/api"
	"muelle/internal/spelling"
)

// Keys of a zone, as written in files and flags.
const (
	keyPublish = "publish"
	keyEgress  = "egress"
	keyBetween = "between"
)

// mostEgress bounds what one network lists.
const mostEgress = 1024

// Set gives a zone one value: key is publish, egress or between; several of egress
// are separated by commas.
func Set(z *api.Zone, key, value string) error {
	switch key {
	case keyPublish:
		z.Publish = value
		return oneOf(key, value, api.ZoneNone, api.ZoneHost, api.ZoneLAN, api.ZoneAny)
	case keyBetween:
		z.Between = value
		return oneOf(key, value, api.ZoneAllow, api.ZoneDeny)
	case keyEgress:
		var list []string
		for part := range strings.SplitSeq(value, ",") {
			list = append(list, strings.TrimSpace(part))
		}
		var err error
		z.Egress, err = Egress(list)
		return err
	}
	return fmt.Errorf("unknown key %q%s: a zone has publish, egress and between", key, suggest(key, keyPublish, keyEgress, keyBetween))
}

func oneOf(key, value string, words ...string) error {
	if slices.Contains(words, value) {
		return nil
	}
	return fmt.Errorf("%s: %q is none of %s", key, value, strings.Join(words, ", "))
}

// Egress checks a list of destinations and gives it in its plain form: in lower case,
// prefixes masked, each once.
func Egress(list []string) ([]string, error) {
	if len(list) == 0 {
		return nil, fmt.Errorf("%s: the list is empty; write none to close it", keyEgress)
	}
	if len(list) > mostEgress {
		return nil, fmt.Errorf("%s: more than %d entries", keyEgress, mostEgress)
	}
	var out []string
	for _, e := range list {
		d, err := destination(e)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", keyEgress, err)
		}
		if (d == api.ZoneNone || d == api.ZoneAny) && len(list) > 1 {
			return nil, fmt.Errorf("%s: %s stands alone", keyEgress, d)
		}
		if !slices.Contains(out, d) {
			out = append(out, d)
		}
	}
	return out, nil
}

func destination(s string) (string, error) {
	if p, ok := Prefix(s); ok {
		if p.IsSingleIP() {
			return p.Addr().String(), nil
		}
		return p.Masked().String(), nil
	}
	name := strings.TrimSuffix(strings.ToLower(s), ".")
	if !isName(strings.TrimPrefix(name, "*.")) {
		return "", fmt.Errorf("%q is neither none nor any, nor a name, an address or a prefix (ports are not part of it)", s)
	}
	return name, nil
}

// isName tells whether s is a name of a host, in lower case: labels of up to 63 letters,
// digits, hyphens (not at the ends) and underscores, not all digits, of 253 in all.
func isName(s string) bool {
	if len(s) > 253 || strings.Trim(s, "0123456789.") == "" {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		if strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return false
		}
	}
	return true
}

// Prefix reads an address or a prefix.
func Prefix(s string) (netip.Prefix, bool) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), true
	}
	p, err := netip.ParsePrefix(s)
	return p, err == nil
}

// Names tells whether an entry of egress means a name: itself, or what is below *.NAME.
// Both are in lower case, without a trailing dot.
func Names(entry, name string) bool {
	if below, ok := strings.CutPrefix(entry, "*"); ok {
		return strings.HasSuffix(name, below) && len(name) > len(below)
	}
	return entry == name
}

// Restricted tells whether a zone's containers may not begin connections to everywhere.
func Restricted(z api.Zone) bool { return len(z.Egress) > 0 && z.Egress[0] != api.ZoneAny }

// Destinations are the entries of a restricted zone: prefixes, and the rest.
func Destinations(z api.Zone) (prefixes []netip.Prefix, names []string) {
	if !Restricted(z) || z.Egress[0] == api.ZoneNone {
		return nil, nil
	}
	for _, e := range z.Egress {
		if p, ok := Prefix(e); ok {
			prefixes = append(prefixes, p)
		} else {
			names = append(names, e)
		}
	}
	return prefixes, names
}

// FromOptions reads a zone out of a network's driver options.
func FromOptions(options map[string]string) (z api.Zone, err error) {
	var keys []string // in a fixed order, for the error
	for key := range options {
		if strings.HasPrefix(key, api.ZoneOption) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	for _, key := range keys {
		if err := Set(&z, strings.TrimPrefix(key, api.ZoneOption), options[key]); err != nil {
			return z, fmt.Errorf("driver option %s: %w", key, err)
		}
	}
	return z, nil
}

// ToOptions gives the driver options with the zone instead of the one they had.
func ToOptions(options map[string]string, z api.Zone) map[string]string {
	out := map[string]string{}
	for k, v := range options {
		if !strings.HasPrefix(k, api.ZoneOption) {
			out[k] = v
		}
	}
	for key, value := range map[string]string{keyPublish: z.Publish, keyEgress: strings.Join(z.Egress, ","), keyBetween: z.Between} {
		if value != "" {
			out[api.ZoneOption+key] = value
		}
	}
	return out
}

// Check refuses what a network cannot be asked: driver is its driver.
func Check(z api.Zone, driver string, internal bool) error {
	switch {
	case z.Publish == "" && z.Egress == nil && z.Between == "":
		return nil
	case driver != "" && driver != "default" && driver != "bridge":
		return fmt.Errorf("the driver %s has no zones: what its containers send does not pass this host's rules; use the driver bridge", driver)
	case internal && (z.Publish == api.ZoneLAN || z.Publish == api.ZoneAny):
		return fmt.Errorf("%s: an internal network publishes to this host at most; write host, or take internal away and close the way out by egress: none", keyPublish)
	case internal && len(z.Egress) > 0 && z.Egress[0] != api.ZoneNone:
		return fmt.Errorf("%s: an internal network has no way out; take internal away", keyEgress)
	}
	return nil
}

// Equal tells whether two zones say the same.
func Equal(a, b api.Zone) bool {
	return a.Publish == b.Publish && a.Between == b.Between && slices.Equal(a.Egress, b.Egress)
}

// suggest names the nearest of the words in brackets, if one is near.
func suggest(s string, words ...string) string {
	best, least := "", 3
	for _, w := range words {
		if d := spelling.Distance(s, w); d < least {
			best, least = w, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %s?)", best)
}
