package bridge

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"muelle/api"
	"muelle/internal/check"
	"muelle/internal/linux/nft"
	"muelle/internal/linux/rtnl"
	"muelle/internal/netdriver"
)

// Leaks tells of interfaces of this instance that no endpoint has, and of what differs
// in its nftables table from what is published. attached says whether an endpoint's id
// begins so.
func (d *Driver) Leaks(_ context.Context, attached func(idPrefix string) bool) ([]check.Leak, error) {
	links, err := rtnl.Links("")
	if err != nil {
		return nil, err
	}
	ours := map[int]bool{0: true} // masters, and none
	for _, l := range links {
		ours[l.Index] = d.isBridge(l)
	}
	ours[0] = true
	var leaks []check.Leak
	for _, l := range links {
		switch {
		case d.isBridge(l):
			leaks = append(leaks, d.linkLeak(l.Name, "a bridge of no network that is up", func() bool { return d.hasBridge(l.Name) }))
		case l.Kind == "veth" && d.isVeth(l.Name) && ours[l.Master]:
			leaks = append(leaks, d.linkLeak(l.Name, "the interface of no container that runs", func() bool {
				return d.joining.has(l.Name) || attached(strings.TrimPrefix(l.Name, d.vethPrefix()))
			}))
		}
	}
	return append(leaks, d.fw.leak()), nil
}

func (d *Driver) hasBridge(name string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, st := range d.bridges {
		if st.name == name {
			return true
		}
	}
	return false
}

func (d *Driver) linkLeak(name, problem string, owned func() bool) check.Leak {
	return check.Leak{
		Finding: api.Finding{Kind: "interface", Name: name, Problem: problem},
		There:   func() bool { return rtnl.Exists(name) },
		Owned:   func() bool { return owned() || d.reaper.pending(name) },
		Mend:    func(context.Context) error { return rtnl.Delete(name) },
	}
}

// leak is there while the table is not what it should be.
func (f *firewall) leak() check.Leak {
	l := check.Leak{Finding: api.Finding{Kind: "firewall rules", Name: "nftables table inet " + f.name}}
	f.mu.Lock()
	l.Problem = f.differs()
	f.mu.Unlock()
	l.There = func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.differs() != ""
	}
	l.Mend = func(context.Context) error {
		f.mu.Lock()
		defer f.mu.Unlock()
		if len(f.bridges) == 0 && len(f.ports) == 0 {
			return f.removeLocked()
		}
		return f.replace()
	}
	return l
}

// differs says in what the kernel's table is not ours; empty where it is. mu is held,
// so that nothing is on its way there.
func (f *firewall) differs() string {
	if f.recovering {
		return ""
	}
	tables, err := listTables()
	if err != nil {
		return err.Error()
	}
	switch {
	case !f.up && tables.has(f.name):
		return "it is there although no network is up"
	case !f.up:
		return ""
	case !tables.has(f.name):
		return "it is missing"
	}
	if intact, err := f.intact(); err != nil {
		return err.Error()
	} else if !intact {
		return "its rules are missing"
	}
	extra, missing, err := f.compare()
	switch {
	case errors.Is(err, unix.ENOENT):
		return "its maps are missing"
	case err != nil:
		return err.Error()
	case extra > 0:
		return fmt.Sprintf("%d published ports that belong to no container", extra)
	case missing > 0:
		return fmt.Sprintf("%d published ports are missing", missing)
	}
	return ""
}

// compare counts elements of the maps of ports that are too many or too few.
func (f *firewall) compare() (extra, missing int, err error) {
	c, err := nft.New()
	if err != nil {
		return 0, 0, err
	}
	want := map[*nftables.Set]map[string]bool{f.t.ports: {}, f.t.addressPorts: {}, f.t.ports6: {}, f.t.addressPorts6: {}, f.t.shared: {}}
	going := map[string]bool{}
	var ports, doomed []netdriver.Mapping
	for _, p := range f.ports {
		ports = append(ports, p)
	}
	for _, p := range f.doomed {
		doomed = append(doomed, p)
	}
	for key := range f.t.chains {
		want[f.t.shared][string(key.element().Key)] = true
	}
	note := func(to func(*nftables.Set) map[string]bool) func(*nftables.Set, []nftables.SetElement) error {
		return func(s *nftables.Set, elements []nftables.SetElement) error {
			for _, e := range elements {
				to(s)[string(e.Key)] = true
			}
			return nil
		}
	}
	err = errors.Join(
		f.t.eachPort(ports, note(func(s *nftables.Set) map[string]bool { return want[s] })),
		f.t.eachPort(doomed, note(func(*nftables.Set) map[string]bool { return going })),
	)
	if err != nil {
		return 0, 0, err
	}
	for set, keys := range want {
		have, err := nft.SetElements(c, set)
		if err != nil {
			return 0, 0, fmt.Errorf("list %s of %s: %w", set.Name, f.name, err)
		}
		for _, e := range have {
			key := string(e.Key)
			if !keys[key] && !going[key] {
				extra++
			}
			delete(keys, key)
		}
		missing += len(keys)
	}
	return extra, missing, nil
}
