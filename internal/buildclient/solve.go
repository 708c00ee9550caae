package buildclient

import (
	"context"
	"encoding/base64"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"

	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/identity"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/secrets/secretsprovider"
	"github.com/moby/buildkit/session/sshforward/sshprovider"
	"github.com/tonistiigi/fsutil"
)

// hostGateway stands for the host's address on the default bridge.
const hostGateway = "host-gateway"

// labelHostGateway is the worker's label with that address, as Docker's builder
// gives it.
const labelHostGateway = "org.mobyproject.buildkit.worker.moby.host-gateway-ip"

// solveOptions translates what the user asked for. cleanup removes temporary files
// and is never nil.
func solveOptions(ctx context.Context, c *bkclient.Client, o Options) (opt bkclient.SolveOpt, cleanup func(), err error) {
	opt = bkclient.SolveOpt{
		Ref:           identity.NewID(),
		Frontend:      "dockerfile.v0",
		FrontendAttrs: attributes(o),
		LocalMounts:   map[string]fsutil.FS{},
		Session:       []session.Attachable{&credentials{lookup: o.Credentials}},
	}
	in := &inputs{o: o, opt: &opt}
	cleanup = in.cleanup
	if err := in.read(); err != nil {
		return opt, cleanup, err
	}
	if err := network(o, &opt); err != nil {
		return opt, cleanup, err
	}
	hosts, err := extraHosts(ctx, c, o.ExtraHosts)
	if err != nil {
		return opt, cleanup, err
	}
	if hosts != "" {
		opt.FrontendAttrs["add-hosts"] = hosts
	}
	if err := caches(o, &opt); err != nil {
		return opt, cleanup, err
	}
	if err := attests(o, &opt); err != nil {
		return opt, cleanup, err
	}
	if err := attachables(o, &opt); err != nil {
		return opt, cleanup, err
	}
	return opt, cleanup, exports(o, &opt)
}

// attributes are the Dockerfile frontend's that need no look at anything.
func attributes(o Options) map[string]string {
	attrs := map[string]string{"image-resolve-mode": "local"}
	set := func(key, value string) {
		if value != "" {
			attrs[key] = value
		}
	}
	if o.Pull {
		attrs["image-resolve-mode"] = "pull"
	}
	set("target", o.Target)
	set("platform", strings.Join(o.Platforms, ","))
	set("cgroup-parent", o.CgroupParent)
	set("ulimit", strings.Join(o.Ulimits, ","))
	set("no-cache", strings.Join(o.NoCacheFilter, ","))
	if o.NoCache {
		attrs["no-cache"] = ""
	}
	if o.ShmSize != 0 {
		attrs["shm-size"] = strconv.FormatInt(o.ShmSize, 10)
	}
	if o.Memory != 0 {
		attrs["memory"] = strconv.FormatInt(o.Memory, 10)
	}
	for k, v := range o.Args {
		attrs["build-arg:"+k] = v
	}
	for k, v := range o.Labels {
		attrs["label:"+k] = v
	}
	return attrs
}

func network(o Options, opt *bkclient.SolveOpt) error {
	opt.AllowedEntitlements = slices.Clone(o.Allow)
	switch o.Network {
	case "", "default":
	case "host":
		opt.FrontendAttrs["force-network-mode"] = "host"
		if !slices.Contains(opt.AllowedEntitlements, "network.host") {
			opt.AllowedEntitlements = append(opt.AllowedEntitlements, "network.host")
		}
	case "none":
		opt.FrontendAttrs["force-network-mode"] = "none"
	default:
		return fmt.Errorf("network mode %q not supported by buildkit: use default, host or none", o.Network)
	}
	return nil
}

// extraHosts makes "name:address" BuildKit's "name=address,…".
func extraHosts(ctx context.Context, c *bkclient.Client, hosts []string) (string, error) {
	var out []string
	for _, h := range hosts {
		name, address, ok := strings.Cut(h, "=")
		if !ok {
			name, address, ok = strings.Cut(h, ":")
		}
		if !ok || name == "" {
			return "", fmt.Errorf("bad format for add-host: %q: want name:address", h)
		}
		address = strings.Trim(address, "[]")
		if address == hostGateway {
			gateway, err := gatewayAddress(ctx, c)
			if err != nil {
				return "", err
			}
			address = gateway
		}
		if net.ParseIP(address) == nil {
			return "", fmt.Errorf("invalid IP address in add-host: %q", address)
		}
		out = append(out, name+"="+address)
	}
	return strings.Join(out, ","), nil
}

func gatewayAddress(ctx context.Context, c *bkclient.Client) (string, error) {
	workers, err := c.ListWorkers(ctx)
	if err != nil {
		return "", fmt.Errorf("ask the builder for the host's address: %w", err)
	}
	for _, w := range workers {
		if a := w.Labels[labelHostGateway]; a != "" {
			return a, nil
		}
	}
	return "", errors.New("unable to derive the IP value for host-gateway")
}

func caches(o Options, opt *bkclient.SolveOpt) (err error) {
	if opt.CacheImports, err = cacheEntries(o.CacheFrom, "ref"); err != nil {
		return err
	}
	opt.CacheExports, err = cacheEntries(o.CacheTo, "ref")
	return err
}

func cacheEntries(in []string, short string) ([]bkclient.CacheOptionsEntry, error) {
	var out []bkclient.CacheOptionsEntry
	for _, s := range in {
		typ, attrs, err := typed(s, "registry", short)
		if err != nil {
			return nil, err
		}
		out = append(out, bkclient.CacheOptionsEntry{Type: typ, Attrs: attrs})
	}
	return out, nil
}

// typed reads "type=x,key=value,…"; what has no "=" is the value of short, of type
// def.
func typed(s, def, short string) (typ string, attrs map[string]string, err error) {
	attrs = map[string]string{}
	if !strings.Contains(s, "=") {
		attrs[short] = s
		return def, attrs, nil
	}
	r := csv.NewReader(strings.NewReader(s))
	r.LazyQuotes = true
	fields, err := r.Read()
	if err != nil {
		return "", nil, fmt.Errorf("invalid value %q: %w", s, err)
	}
	for _, f := range fields {
		key, value, ok := strings.Cut(f, "=")
		if !ok {
			return "", nil, fmt.Errorf("invalid field %q in %q: must be a key=value pair", f, s)
		}
		attrs[strings.ToLower(strings.TrimSpace(key))] = value
	}
	typ = attrs["type"]
	delete(attrs, "type")
	if typ == "" {
		return "", nil, fmt.Errorf("type required in %q", s)
	}
	return typ, attrs, nil
}

// attests asks for provenance and bills of material.
func attests(o Options, opt *bkclient.SolveOpt) error {
	for _, a := range o.Attests {
		typ, attrs, err := typed(a, a, "mode")
		if err != nil {
			return err
		}
		if disabled, err := strconv.ParseBool(attrs["disabled"]); err == nil && disabled {
			continue
		}
		delete(attrs, "disabled")
		var fields []string
		for _, k := range slices.Sorted(maps.Keys(attrs)) {
			fields = append(fields, k+"="+attrs[k])
		}
		opt.FrontendAttrs["attest:"+typ] = strings.Join(fields, ",")
	}
	return nil
}

func attachables(o Options, opt *bkclient.SolveOpt) error {
	if len(o.Secrets) > 0 {
		var sources []secretsprovider.Source
		for _, s := range o.Secrets {
			sources = append(sources, secretsprovider.Source{ID: s.ID, FilePath: s.Source, Env: s.Env})
		}
		store, err := secretsprovider.NewStore(sources)
		if err != nil {
			return err
		}
		opt.Session = append(opt.Session, secretsprovider.NewSecretProvider(store))
	}
	if len(o.SSH) > 0 {
		var agents []sshprovider.AgentConfig
		for _, s := range o.SSH {
			agents = append(agents, sshprovider.AgentConfig{ID: s.ID, Paths: s.Paths})
		}
		provider, err := sshprovider.NewSSHAgentProvider(agents)
		if err != nil {
			return err
		}
		opt.Session = append(opt.Session, provider)
	}
	return nil
}

// result reads what the exporters answered.
func result(opt bkclient.SolveOpt, resp map[string]string) Result {
	r := Result{Metadata: map[string]any{"muelle.build.ref": opt.Ref}}
	for k, v := range resp {
		r.Metadata[k] = v
		// Documents come as base64 of JSON.
		if b, err := base64.StdEncoding.DecodeString(v); err == nil && strings.HasPrefix(string(b), "{") && json.Valid(b) {
			r.Metadata[k] = json.RawMessage(b)
		}
	}
	for _, e := range opt.Exports {
		if e.Type == exporterStore || e.Type == bkclient.ExporterImage {
			r.ImageID = resp["containerimage.digest"]
		}
	}
	return r
}

// exists follows symbolic links.
func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
