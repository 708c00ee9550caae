package project

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	ctypes "github.com/moby/moby/api/types/container"
	"golang.org/x/sys/unix"

	"muelle/api"
	"muelle/internal/container"
	"muelle/internal/container/layer"
	"muelle/internal/filter"
	"muelle/internal/policy"
	"muelle/internal/zone/explain"
)

const (
	// mostReplicas of a target are looked at.
	mostReplicas = 8
	// largestFile is how much of a container's hosts and resolv.conf is read.
	largestFile = 64 << 10
)

// Explain follows a connection from source to target hop by hop. Where the target is a
// service of several containers, each is looked at, and the first that cannot be reached
// told of.
func (s *Service) Explain(ctx context.Context, r api.ExplainRequest) (*api.Explanation, error) {
	ref, port, proto, err := parseTarget(r.Target)
	if err != nil {
		return nil, err
	}
	source, err := s.source(ctx, r)
	if err != nil {
		return nil, err
	}
	targets, err := s.targets(ctx, r, ref, source)
	if err != nil {
		return nil, err
	}
	if k := targets[0].Kind; source.Kind == explain.World && (k == explain.Outside || k == explain.World || k == explain.Itself) {
		return nil, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("what goes from %s to %s does not pass this host: name a service, a container, host or an address of this host as the target", r.Source, ref))
	}
	if source.Kind == explain.Container && source.ID != "" {
		s.files(ctx, source)
	}
	found, names := make([]*api.Explanation, len(targets)), make([]string, len(targets))
	var wg sync.WaitGroup
	for i, t := range targets {
		names[i] = t.Name
		wg.Go(func() {
			found[i] = explain.Explain(ctx, s.networks, explain.Question{Source: *source, Target: t, Port: port, Proto: proto})
		})
	}
	wg.Wait()
	return explain.Together(found, names), ctx.Err()
}

var portSuffix = regexp.MustCompile(`^(.*):(\d+)(?:/(tcp|udp|sctp))?$`)

// parseTarget splits TARGET[:PORT[/udp|/sctp]].
func parseTarget(text string) (ref string, port uint16, proto string, err error) {
	invalid := func(format string, args ...any) error {
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(format, args...))
	}
	ref, proto = text, "tcp"
	if _, aerr := netip.ParseAddr(text); aerr == nil {
		return text, 0, proto, nil // an address of IPv6 ends in a number, too
	}
	if m := portSuffix.FindStringSubmatch(text); m != nil {
		n, perr := strconv.ParseUint(m[2], 10, 16)
		if perr != nil || n == 0 {
			return "", 0, "", invalid("%s is not a port", m[2])
		}
		ref, port = m[1], uint16(n)
		if m[3] != "" {
			proto = m[3]
		}
	}
	ref = strings.TrimSuffix(strings.TrimPrefix(ref, "["), "]")
	if ref == "" {
		return "", 0, "", invalid("invalid target %q: it is TARGET or TARGET:PORT", text)
	}
	return ref, port, proto, nil
}

// source finds who connects.
func (s *Service) source(ctx context.Context, r api.ExplainRequest) (*explain.Party, error) {
	if err := s.ambiguous(ctx, r.Source, r.Project, "localhost"); err != nil {
		return nil, err
	}
	switch r.Source {
	case "host", "localhost":
		p := &explain.Party{Kind: explain.Host, Text: "host"}
		// Without them it has no name server, which is then what is told.
		p.Resolv, _ = os.ReadFile("/etc/resolv.conf")
		p.Hosts, _ = os.ReadFile("/etc/hosts")
		return p, nil
	case "outside", "internet", "world", policy.LAN:
		return &explain.Party{Kind: explain.World, Text: r.Source}, nil
	case "":
		return nil, errdefs.ErrInvalidArgument.WithMessage("invalid source: it is a service, a container, host, lan, internet, outside or an address")
	}
	found, err := s.parties(ctx, r.Source, r.Project)
	if errdefs.IsNotFound(err) {
		if p, aerr := s.somebody(ctx, r.Source); p != nil || aerr != nil {
			return p, aerr
		}
	}
	if err != nil {
		return nil, err
	}
	return &found[0], nil
}

// somebody is who has an address: "192.0.2.7", or "lan:192.0.2.7"; nil where it is none.
func (s *Service) somebody(ctx context.Context, text string) (*explain.Party, error) {
	bare := text
	for _, word := range []string{policy.LAN, policy.Internet, "outside"} {
		bare = strings.TrimPrefix(bare, word+":")
	}
	addr, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(bare, "["), "]"))
	if err != nil {
		return nil, nil
	}
	if addr = addr.Unmap(); addr.IsLoopback() || addr.IsUnspecified() || addr.IsMulticast() {
		return nil, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid source: %s is nobody's outside: name a service, a container, host, lan, internet, outside or an address", addr))
	}
	found, err := s.byAddress(ctx, addr)
	if err != nil {
		return nil, err
	}
	p := &found[0]
	switch p.Kind {
	case explain.Outside:
		p.Kind, p.DNSName = explain.World, ""
	case explain.Host:
		return s.source(ctx, api.ExplainRequest{Source: "localhost"})
	}
	return p, nil
}

// ambiguous refuses a word that is this host's or the world's and that of a service or
// container, too.
func (s *Service) ambiguous(ctx context.Context, word, project, host string) error {
	place, other := "the world", "outside"
	switch word {
	case "host":
		place, other = "this host", host
	case policy.LAN:
		place = "the machines on this host's links"
	case "outside":
		other = "internet"
	case "internet", "world":
	default:
		return nil
	}
	found, err := s.parties(ctx, word, project)
	if errdefs.IsNotFound(err) || err == nil && found[0].Name != word && found[0].Service != word {
		return nil // or an id begins so
	}
	if err != nil {
		return err
	}
	p, what := found[0], "the container "+word
	write := p.ID
	if p.Service == word && p.Project != "" {
		what, write = "the service of that name", p.Project+"/"+word
	}
	return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("%s may be %s or %s: write %s for %s, and %s for %s", word, place, what, write, what, other, place))
}

// hostNames are what containers call this host.
var hostNames = []string{"host.docker.internal", "host.muelle.internal", "gateway.docker.internal"}

// targets finds who is connected to; more than one for a service's replicas.
func (s *Service) targets(ctx context.Context, r api.ExplainRequest, ref string, source *explain.Party) ([]explain.Party, error) {
	one := func(p explain.Party) ([]explain.Party, error) { return []explain.Party{p}, nil }
	addr, aerr := netip.ParseAddr(ref)
	addr = addr.Unmap()
	project := r.Project
	if project == "" {
		project = source.Project
	}
	if err := s.ambiguous(ctx, ref, project, hostNames[0]); err != nil {
		return nil, err
	}
	switch {
	case ref == "host":
		return one(explain.Party{Kind: explain.Host, Text: ref})
	case slices.Contains(hostNames, strings.ToLower(ref)):
		return one(explain.Party{Kind: explain.Host, Text: ref, DNSName: ref})
	case ref == "outside" || ref == "internet" || ref == "world" || ref == policy.LAN:
		return one(explain.Party{Kind: explain.World, Text: ref})
	case ref == "localhost":
		return one(explain.Party{Kind: explain.Itself, Text: ref})
	case aerr == nil && addr.IsLoopback():
		return one(explain.Party{Kind: explain.Itself, Text: ref, Addr: addr})
	case aerr == nil:
		return s.byAddress(ctx, addr)
	}
	found, err := s.parties(ctx, ref, project)
	if errdefs.IsNotFound(err) && !strings.Contains(ref, "/") {
		return one(explain.Party{Kind: explain.Outside, Text: ref, DNSName: ref})
	}
	for i := range found {
		p := &found[i]
		p.DNSName = p.Name
		if p.Service != "" && p.Project != source.Project && strings.Contains(ref, "/") {
			p.Text = ref
		}
		if p.Service != "" && p.Project == source.Project && ref != p.Name {
			p.DNSName = p.Service
		}
	}
	return found, err
}

// byAddress finds whose address one is.
func (s *Service) byAddress(ctx context.Context, addr netip.Addr) ([]explain.Party, error) {
	all := s.networks.Snapshot()
	for _, n := range all.Networks {
		for _, sub := range n.Subnets {
			if sub.Gateway == addr {
				return []explain.Party{{Kind: explain.Host, Text: addr.String(), Addr: addr}}, nil
			}
		}
	}
	for _, sb := range all.Sandboxes {
		for _, e := range sb.Endpoints {
			if slices.ContainsFunc(e.Addresses, func(p netip.Prefix) bool { return p.Addr() == addr }) {
				found, err := s.parties(ctx, sb.ID, "")
				for i := range found {
					found[i].Addr = addr
				}
				return found, err
			}
		}
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	if slices.ContainsFunc(own, func(a net.Addr) bool {
		p, err := netip.ParsePrefix(a.String())
		return err == nil && p.Addr() == addr
	}) {
		return []explain.Party{{Kind: explain.Host, Text: addr.String(), Addr: addr}}, nil
	}
	return []explain.Party{{Kind: explain.Outside, Text: addr.String(), Addr: addr}}, nil
}

// parties finds a service of the project, PROJECT/SERVICE, or a container; those that
// run come first.
func (s *Service) parties(ctx context.Context, ref, project string) ([]explain.Party, error) {
	service := ref
	if p, name, ok := strings.Cut(ref, "/"); ok {
		project, service = p, name
	}
	if project != "" {
		found, err := s.replicas(ctx, project, service)
		if err != nil || len(found) > 0 {
			return found, err
		}
	}
	p, err := s.party(ctx, ref)
	if err != nil {
		return nil, err
	}
	return []explain.Party{*p}, nil
}

func (s *Service) replicas(ctx context.Context, project, service string) (found []explain.Party, err error) {
	all, err := s.members(ctx, project)
	if err != nil {
		return nil, err
	}
	for _, m := range byService(all)[service] {
		p, err := s.party(ctx, m.ID)
		if errdefs.IsNotFound(err) {
			continue // it has just been removed
		}
		if err != nil {
			return nil, err
		}
		p.Text = service
		found = append(found, *p)
	}
	slices.SortStableFunc(found, func(a, b explain.Party) int { return badness(a) - badness(b) })
	if len(found) > mostReplicas {
		found = found[:mostReplicas]
	}
	if len(found) == 0 {
		return s.declared(project, service), nil
	}
	// One that has ended beside others that run is not what a name leads to.
	for i := range found {
		if i > 0 && badness(found[i]) > 0 {
			return found[:i], nil
		}
	}
	return found, nil
}

func badness(p explain.Party) int {
	if p.State == string(ctypes.StateRunning) {
		return 0
	}
	return 1
}

// declared is a service that has no container.
func (s *Service) declared(project, service string) []explain.Party {
	spec, err := s.Get(project)
	if err != nil {
		return nil
	}
	for _, d := range spec.Services {
		if d.Name != service {
			continue
		}
		p := explain.Party{Kind: explain.Container, Text: service, Project: project, Service: service}
		for _, n := range spec.Networks {
			if d.Endpoints[n.Key] != nil {
				p.Networks = append(p.Networks, n.Name)
			}
		}
		if len(spec.ConfigFiles) > 0 {
			p.ComposeFile = spec.ConfigFiles[0]
		}
		return []explain.Party{p}
	}
	return nil
}

// party describes a container.
func (s *Service) party(ctx context.Context, ref string) (*explain.Party, error) {
	e, err := s.containers.Evidence(ctx, ref)
	if err != nil {
		return nil, err
	}
	labels := e.Config.Labels
	p := &explain.Party{
		Kind: explain.Container, Text: e.Name, ID: e.ID, Name: e.Name, Project: labels[api.LabelProject], Service: labels[api.LabelService],
		State: string(e.State.Status), ExitCode: e.State.ExitCode, Mode: string(e.HostConfig.NetworkMode),
	}
	p.ComposeFile, _, _ = strings.Cut(labels[api.LabelConfigFiles], ",")
	if e.State.Health != nil {
		p.Health = string(e.State.Health.Status)
	}
	if other, ok := strings.CutPrefix(p.Mode, "container:"); ok {
		if owner, err := s.containers.Evidence(ctx, other); err == nil {
			p.Sandbox = owner.ID
		}
	}
	list, err := s.containers.List(ctx, container.ListOptions{All: true, Filters: filter.Args{"id": {e.ID}}})
	if err != nil {
		return nil, err
	}
	for _, c := range list {
		if c.NetworkSettings != nil {
			p.Networks = slices.Sorted(maps.Keys(c.NetworkSettings.Networks))
		}
	}
	return p, nil
}

// files reads what the container's programs look names up by. What cannot be read is
// not known.
func (s *Service) files(ctx context.Context, p *explain.Party) {
	e, err := s.containers.Evidence(ctx, p.ID)
	if err != nil || e.State.Pid == 0 {
		return
	}
	root, err := e.Root()
	if err != nil {
		return
	}
	defer root.Close()
	read := func(name string) []byte {
		f, err := layer.OpenInRoot(root, name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
		if err != nil {
			return nil
		}
		defer f.Close()
		if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
			return nil // the container's own doing: a pipe would never end
		}
		data, err := io.ReadAll(io.LimitReader(f, largestFile))
		if err != nil {
			return nil
		}
		return data
	}
	p.Resolv, p.Hosts = read("/etc/resolv.conf"), read("/etc/hosts")
}
