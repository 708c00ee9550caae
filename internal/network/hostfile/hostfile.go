// Package hostfile writes the contents of a container's /etc/hosts and
// /etc/resolv.conf, and reads the host's resolv.conf.
package hostfile

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Embedded is where the resolver answers inside a container.
var Embedded = netip.AddrFrom4([4]byte{127, 0, 0, 11})

// Host is a line of the hosts file.
type Host struct {
	Addr  netip.Addr
	Names []string
}

// Hosts is a container's hosts file: loopback, then the lines given.
func Hosts(lines []Host) []byte {
	b := []byte("127.0.0.1\tlocalhost\n" +
		"::1\tlocalhost ip6-localhost ip6-loopback\n" +
		"fe00::\tip6-localnet\n" +
		"ff00::\tip6-mcastprefix\n" +
		"ff02::1\tip6-allnodes\n" +
		"ff02::2\tip6-allrouters\n")
	return Append(b, lines)
}

// Append adds lines to a hosts file.
func Append(b []byte, lines []Host) []byte {
	if len(b) > 0 && b[len(b)-1] != '\n' {
		b = append(b, '\n')
	}
	for _, l := range lines {
		b = fmt.Appendf(b, "%s\t%s\n", l.Addr, strings.Join(l.Names, " "))
	}
	return b
}

// Extra parses "name:address" or "name=address" of --add-host; the gateways stand for
// the address host-gateway, one line each.
func Extra(entry string, gateways ...netip.Addr) ([]Host, error) {
	name, value, ok := strings.Cut(entry, "=")
	if !ok {
		name, value, ok = strings.Cut(entry, ":")
	}
	value = strings.TrimSuffix(strings.TrimPrefix(value, "["), "]")
	if !ok || name == "" || strings.ContainsAny(name, " \t\n#") {
		return nil, fmt.Errorf("bad format for add-host: %q", entry)
	}
	if value == "host-gateway" {
		var list []Host
		for _, a := range gateways {
			if a.IsValid() {
				list = append(list, Host{Addr: a, Names: []string{name}})
			}
		}
		if len(list) == 0 {
			return nil, fmt.Errorf("unable to derive the IP value for host-gateway")
		}
		return list, nil
	}
	a, err := netip.ParseAddr(value)
	if err != nil {
		return nil, fmt.Errorf("invalid IP address in add-host: %q", value)
	}
	return []Host{{Addr: a, Names: []string{name}}}, nil
}

// Resolv is a resolv.conf, understood.
type Resolv struct {
	Servers         []netip.Addr
	Search, Options []string
}

// ParseResolv reads a resolv.conf; lines that it does not know are left out.
func ParseResolv(data []byte) Resolv {
	var r Resolv
	for line := range bytes.Lines(data) {
		text, _, _ := strings.Cut(string(line), "#")
		text, _, _ = strings.Cut(text, ";")
		fields := strings.Fields(text)
		if len(fields) < 2 {
			continue
		}
		switch fields[0] {
		case "nameserver":
			if a, err := netip.ParseAddr(fields[1]); err == nil {
				r.Servers = append(r.Servers, a.Unmap())
			}
		case "search", "domain":
			r.Search = fields[1:]
		case "options":
			r.Options = append(r.Options, fields[1:]...)
		}
	}
	return r
}

// Bytes is the file. Comments, each without "# ", follow it.
func (r Resolv) Bytes(comments ...string) []byte {
	var b []byte
	for _, s := range r.Servers {
		b = fmt.Appendf(b, "nameserver %s\n", s)
	}
	if len(r.Search) > 0 && !slices.Equal(r.Search, []string{"."}) {
		b = fmt.Appendf(b, "search %s\n", strings.Join(r.Search, " "))
	}
	if len(r.Options) > 0 {
		b = fmt.Appendf(b, "options %s\n", strings.Join(r.Options, " "))
	}
	for _, c := range comments {
		b = fmt.Appendf(b, "# %s\n", c)
	}
	return b
}

// Override replaces what a container asked for itself.
func (r Resolv) Override(servers []netip.Addr, search, options []string) Resolv {
	if len(servers) > 0 {
		r.Servers = servers
	}
	if len(search) > 0 {
		r.Search = search
	}
	if len(options) > 0 {
		r.Options = options
	}
	return r
}

// ForCopy is what a container that shares no resolver of ours gets: a resolver on
// the host's loopback is out of its reach. As Docker, it then gets Google's.
func (r Resolv) ForCopy() Resolv {
	r.Servers = slices.DeleteFunc(slices.Clone(r.Servers), netip.Addr.IsLoopback)
	if len(r.Servers) == 0 {
		r.Servers = []netip.Addr{netip.AddrFrom4([4]byte{8, 8, 8, 8}), netip.AddrFrom4([4]byte{8, 8, 4, 4})}
	}
	return r
}

// ForResolver points to the resolver of ours. Single labels are tried as they are
// (ndots:0), since they are what containers are called by.
func (r Resolv) ForResolver() Resolv {
	r.Servers = []netip.Addr{Embedded}
	r.Options = slices.Clone(r.Options)
	if _, set := r.NDots(); !set {
		r.Options = append(r.Options, "ndots:0")
	}
	return r
}

// NDots is the option of that name, if it is set.
func (r Resolv) NDots() (int, bool) {
	for _, o := range r.Options {
		if s, ok := strings.CutPrefix(o, "ndots:"); ok {
			if n, err := strconv.Atoi(s); err == nil && n >= 0 {
				return n, true
			}
		}
	}
	return 0, false
}
