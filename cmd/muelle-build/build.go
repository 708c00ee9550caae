package main

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/moby/moby/api/types/registry"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"muelle/client"
	"muelle/internal/atomicfile"
	"muelle/internal/buildclient"
	"muelle/internal/console"
)

// buildFlags are those of Docker's build that need more than a value.
type buildFlags struct {
	o buildclient.Options

	args, labels, contexts []string
	secrets, ssh           []string
	shmSize, memory        string
	provenance, sbom       string
	progress               string
	quiet, load, push      bool
	iidFile, metadataFile  string
	builder                string
	squash                 bool
	securityOpt            []string
	memorySwap             string
}

func (a *app) buildCommand() *cobra.Command {
	f := &buildFlags{}
	cmd := &cobra.Command{
		Use: "build [OPTIONS] PATH | URL | -", Aliases: []string{"b"}, Short: "Start a build",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 1 {
				return nil
			}
			return fmt.Errorf("\"%s build\" requires exactly 1 argument.\nSee '%s build --help'.\n\nUsage:  %s build [OPTIONS] PATH | URL | -\n\nStart a build", a.o.Name, a.o.Name, a.o.Name)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			f.o.ContextDir = args[0]
			return a.build(cmd.Context(), f)
		},
	}
	f.register(cmd.Flags())
	return cmd
}

func (f *buildFlags) register(fs *pflag.FlagSet) {
	fs.StringArrayVar(&f.o.ExtraHosts, "add-host", nil, `Add a custom host-to-IP mapping (format: "host:ip")`)
	fs.StringArrayVar(&f.o.Allow, "allow", nil, `Allow extra privileged entitlement (e.g., "network.host", "security.insecure")`)
	fs.StringArrayVar(&f.o.Annotations, "annotation", nil, "Add annotation to the image")
	fs.StringArrayVar(&f.o.Attests, "attest", nil, `Attestation parameters (format: "type=sbom,generator=image")`)
	fs.StringArrayVar(&f.args, "build-arg", nil, "Set build-time variables")
	fs.StringArrayVar(&f.contexts, "build-context", nil, "Additional build contexts (e.g., name=path)")
	fs.StringVar(&f.builder, "builder", "", "Override the configured builder instance")
	fs.StringArrayVar(&f.o.CacheFrom, "cache-from", nil, `External cache sources (e.g., "user/app:cache", "type=local,src=path/to/dir")`)
	fs.StringArrayVar(&f.o.CacheTo, "cache-to", nil, `Cache export destinations (e.g., "user/app:cache", "type=local,dest=path/to/dir")`)
	fs.StringVar(&f.o.CgroupParent, "cgroup-parent", "", `Set the parent cgroup for the "RUN" instructions during build`)
	fs.StringVarP(&f.o.Dockerfile, "file", "f", "", `Name of the Dockerfile (default: "PATH/Dockerfile")`)
	fs.StringVar(&f.iidFile, "iidfile", "", "Write the image ID to a file")
	fs.StringArrayVar(&f.labels, "label", nil, "Set metadata for an image")
	fs.BoolVar(&f.load, "load", false, `Shorthand for "--output=type=docker"`)
	fs.StringVarP(&f.memory, "memory", "m", "", "Memory limit for the build's RUN instructions")
	fs.StringVar(&f.metadataFile, "metadata-file", "", "Write build result metadata to a file")
	fs.StringVar(&f.o.Network, "network", "default", `Set the networking mode for the "RUN" instructions during build`)
	fs.BoolVar(&f.o.NoCache, "no-cache", false, "Do not use cache when building the image")
	fs.StringArrayVar(&f.o.NoCacheFilter, "no-cache-filter", nil, "Do not cache specified stages")
	fs.StringArrayVarP(&f.o.Outputs, "output", "o", nil, `Output destination (format: "type=local,dest=path")`)
	fs.StringArrayVar(&f.o.Platforms, "platform", nil, "Set target platform for build")
	fs.StringVar(&f.progress, "progress", "auto", `Set type of progress output ("auto", "plain", "tty", "quiet", "rawjson"). Use plain to show container output`)
	fs.StringVar(&f.provenance, "provenance", "", `Shorthand for "--attest=type=provenance"`)
	fs.BoolVar(&f.o.Pull, "pull", false, "Always attempt to pull all referenced images")
	fs.BoolVar(&f.push, "push", false, `Shorthand for "--output=type=registry"`)
	fs.BoolVarP(&f.quiet, "quiet", "q", false, "Suppress the build output and print image ID on success")
	fs.StringVar(&f.sbom, "sbom", "", `Shorthand for "--attest=type=sbom"`)
	fs.StringArrayVar(&f.secrets, "secret", nil, `Secret to expose to the build (format: "id=mysecret[,src=/local/secret]")`)
	fs.StringVar(&f.shmSize, "shm-size", "", `Shared memory size for build containers`)
	fs.StringArrayVar(&f.ssh, "ssh", nil, `SSH agent socket or keys to expose to the build (format: "default|<id>[=<socket>|<key>[,<key>]]")`)
	fs.StringArrayVarP(&f.o.Tags, "tag", "t", nil, `Name and optionally a tag (format: "name:tag")`)
	fs.StringVar(&f.o.Target, "target", "", "Set the target build stage to build")
	fs.StringArrayVar(&f.o.Ulimits, "ulimit", nil, "Ulimit options")
	f.registerClassic(fs)
}

// registerClassic defines what Docker's buildx accepts of the classic builder:
// some of it without effect, the rest with an error.
func (f *buildFlags) registerClassic(fs *pflag.FlagSet) {
	fs.Bool("rm", true, "Remove intermediate containers after a successful build")
	fs.Bool("force-rm", false, "Always remove intermediate containers")
	fs.Bool("compress", false, "Compress the build context using gzip")
	fs.BoolVar(&f.squash, "squash", false, "Squash newly built layers into a single new layer")
	fs.StringArrayVar(&f.securityOpt, "security-opt", nil, "Security options")
	fs.StringVar(&f.memorySwap, "memory-swap", "", "Swap limit equal to memory plus swap")
	for _, name := range []string{"rm", "force-rm", "compress", "squash", "security-opt", "memory-swap"} {
		if err := fs.MarkHidden(name); err != nil {
			panic(err) // a name of the list above was mistyped
		}
	}
}

func (a *app) build(ctx context.Context, f *buildFlags) error {
	if err := f.complete(); err != nil {
		return err
	}
	c, err := a.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close() // nothing is written any more
	if err := a.prepare(f, c); err != nil {
		return err
	}
	mode := f.progress
	if f.quiet {
		mode = "quiet"
	}
	if f.o.Progress, err = buildclient.NewProgress(a.err, mode); err != nil {
		return err
	}
	res, err := buildclient.Build(ctx, f.o)
	if cerr := f.o.Progress.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return a.report(f, res)
}

// complete reads the flags whose values have a form of their own.
func (f *buildFlags) complete() (err error) {
	switch {
	case f.squash:
		return errors.New("experimental flag squash is not supported")
	case len(f.securityOpt) > 0:
		return errors.New("security-opt is not supported: allow RUN --security=insecure with --allow security.insecure")
	case f.memorySwap != "":
		return errors.New("memory-swap is not supported")
	case f.builder != "" && f.builder != "default" && f.builder != "muelle":
		return fmt.Errorf("no builder %q found: the daemon has one, called default", f.builder)
	}
	f.o.Args = variables(f.args)
	f.o.Labels = map[string]string{}
	for _, l := range f.labels {
		k, v, _ := strings.Cut(l, "=")
		f.o.Labels[k] = v
	}
	if f.o.Contexts, err = pairs(f.contexts); err != nil {
		return err
	}
	if f.o.ShmSize, err = size("shm-size", f.shmSize); err != nil {
		return err
	}
	if f.o.Memory, err = size("memory", f.memory); err != nil {
		return err
	}
	for _, s := range f.secrets {
		secret, err := parseSecret(s)
		if err != nil {
			return err
		}
		f.o.Secrets = append(f.o.Secrets, secret)
	}
	for _, s := range f.ssh {
		id, paths, _ := strings.Cut(s, "=")
		key := buildclient.SSH{ID: id}
		if paths != "" {
			key.Paths = strings.Split(paths, ",")
		}
		f.o.SSH = append(f.o.SSH, key)
	}
	f.attest("provenance", f.provenance)
	f.attest("sbom", f.sbom)
	return f.outputs()
}

// variables reads NAME=value, and NAME from the environment.
func variables(in []string) map[string]string {
	out := map[string]string{}
	for _, s := range in {
		k, v, ok := strings.Cut(s, "=")
		if !ok {
			if v, ok = os.LookupEnv(k); !ok {
				continue
			}
		}
		out[k] = v
	}
	return out
}

func pairs(in []string) (map[string]string, error) {
	out := map[string]string{}
	for _, s := range in {
		k, v, ok := strings.Cut(s, "=")
		if !ok || k == "" {
			return nil, fmt.Errorf("invalid context value: %s, expected key=value", s)
		}
		out[k] = v
	}
	return out, nil
}

func size(flag, s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	n, err := console.ParseSize(s)
	if err != nil {
		return 0, fmt.Errorf("invalid argument %q for %q flag: %w", s, "--"+flag, err)
	}
	return n, nil
}

func parseSecret(s string) (buildclient.Secret, error) {
	var out buildclient.Secret
	fields, err := csv.NewReader(strings.NewReader(s)).Read()
	if err != nil {
		return out, fmt.Errorf("invalid secret %q: %w", s, err)
	}
	typ := ""
	for _, f := range fields {
		k, v, ok := strings.Cut(f, "=")
		if !ok {
			return out, fmt.Errorf("invalid field '%s' must be a key=value pair", f)
		}
		switch strings.ToLower(k) {
		case "type":
			if v != "file" && v != "env" {
				return out, fmt.Errorf("unsupported secret type %q", v)
			}
			typ = v
		case "id":
			out.ID = v
		case "source", "src":
			out.Source = v
		case "env":
			out.Env = v
		default:
			return out, fmt.Errorf("unexpected key '%s' in '%s'", k, f)
		}
	}
	if typ == "env" && out.Env == "" {
		out.Env, out.Source = out.Source, ""
	}
	return out, nil
}

// attest reads the shorthands: a boolean, or the attestation's parameters.
func (f *buildFlags) attest(kind, value string) {
	switch value {
	case "", "false", "0":
	case "true", "1":
		f.o.Attests = append(f.o.Attests, "type="+kind)
	default:
		f.o.Attests = append(f.o.Attests, "type="+kind+","+value)
	}
}

func (f *buildFlags) outputs() error {
	if f.load && f.push {
		return errors.New("push and load may not be set together at the moment")
	}
	if f.load {
		f.o.Outputs = append(f.o.Outputs, "type=docker")
	}
	if f.push {
		f.o.Outputs = append(f.o.Outputs, "type=registry")
	}
	return nil
}

// prepare adds what comes from this side: streams, credentials, proxies.
func (a *app) prepare(f *buildFlags, c *client.Client) error {
	cfg, err := a.o.DockerConfig()
	if err != nil {
		return err
	}
	for k, v := range proxies(cfg.Proxies, c.Host()) {
		if _, given := f.o.Args[k]; !given {
			f.o.Args[k] = v
		}
	}
	f.o.Client, f.o.ContextReader, f.o.Stdout = c, a.in, a.out
	f.o.Credentials = func(host string) (*registry.AuthConfig, error) { return cfg.Get(host) }
	return nil
}

// proxies are the build arguments that the client's configuration asks for.
func proxies(configured map[string]map[string]string, host string) map[string]string {
	p, ok := configured[host]
	if !ok {
		p = configured["default"]
	}
	out := map[string]string{}
	for key, name := range map[string]string{
		"httpProxy": "HTTP_PROXY", "httpsProxy": "HTTPS_PROXY", "noProxy": "NO_PROXY",
		"ftpProxy": "FTP_PROXY", "allProxy": "ALL_PROXY",
	} {
		if v := p[key]; v != "" {
			out[name], out[strings.ToLower(name)] = v, v
		}
	}
	return out
}

// report writes what was asked for; standard output gets nothing but the id, and
// that only with --quiet.
func (a *app) report(f *buildFlags, res buildclient.Result) error {
	if f.iidFile != "" {
		if err := atomicfile.WriteNoSync(f.iidFile, []byte(res.ImageID), 0o644); err != nil {
			return fmt.Errorf("write %s: %w", f.iidFile, err)
		}
	}
	if f.metadataFile != "" {
		b, err := json.MarshalIndent(res.Metadata, "", "  ")
		if err != nil {
			return err
		}
		if err := atomicfile.WriteNoSync(f.metadataFile, b, 0o644); err != nil {
			return fmt.Errorf("write %s: %w", f.metadataFile, err)
		}
	}
	if f.quiet && res.ImageID != "" {
		_, err := fmt.Fprintln(a.out, res.ImageID)
		return err
	}
	return nil
}
