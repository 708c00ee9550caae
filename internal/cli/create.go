package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"muelle/client"
	"muelle/internal/cli/runflags"
	"muelle/internal/console"
)

// createFlags are those of create and run that are not the container's.
type createFlags struct {
	verb     string
	name     string
	platform string
	pull     string
	quiet    bool
	untrust  bool
	options  *runflags.Options
}

func (c *createFlags) register(a *app, f *pflag.FlagSet) {
	f.SetInterspersed(false)
	doing := map[string]string{"run": "running", "create": "creating"}[c.verb]
	f.StringVar(&c.name, "name", "", "Assign a name to the container")
	f.StringVar(&c.pull, "pull", "missing", `Pull image before `+doing+` ("always", "missing", "never")`)
	f.BoolVarP(&c.quiet, "quiet", "q", false, "Suppress the pull output")
	f.Bool("help", false, "Print usage")
	f.StringVar(&c.platform, "platform", os.Getenv("DOCKER_DEFAULT_PLATFORM"), "Set platform if server is multi-platform capable")
	a.untrusted(f, &c.untrust, "Skip image verification")
	c.options = runflags.Register(f)
}

// parse checks and translates the flags.
func (a *app) parse(c *createFlags, args []string) (*runflags.Spec, error) {
	switch c.pull {
	case "always", "missing", "never", "":
	default:
		return nil, fmt.Errorf("invalid pull option: '%s': must be one of %q, %q or %q", c.pull, "always", "missing", "never")
	}
	if !c.untrust {
		return nil, errNoTrust
	}
	c.options.Image = args[0]
	if len(args) > 1 {
		c.options.Args = args[1:]
	}
	spec, err := c.options.Parse()
	if err != nil {
		return nil, err
	}
	proxies, err := a.proxyEnv()
	if err != nil {
		return nil, err
	}
	spec.Config.Env = append(proxies, spec.Config.Env...)
	if len(spec.Config.Image) != 64 || strings.Trim(spec.Config.Image, "0123456789abcdef") != "" {
		if strings.HasPrefix(spec.Config.Image, "sha256:") {
			return spec, nil
		}
		if _, err := console.ParseRef(spec.Config.Image); err != nil {
			return nil, err
		}
	}
	return spec, nil
}

// proxyEnv is what "proxies" of config.json asks to set in every container.
func (a *app) proxyEnv() ([]string, error) {
	p, err := a.proxies()
	if err != nil {
		return nil, err
	}
	var out []string
	for _, x := range [][2]string{{"httpProxy", "http_proxy"}, {"httpsProxy", "https_proxy"}, {"noProxy", "no_proxy"}, {"ftpProxy", "ftp_proxy"}, {"allProxy", "all_proxy"}} {
		if v := p[x[0]]; v != "" {
			out = append(out, strings.ToUpper(x[1])+"="+v, x[1]+"="+v)
		}
	}
	return out, nil
}

// withImage does something that needs the image, and pulls it first or after a
// failure as --pull says.
func (a *app) withImage(ctx context.Context, c *createFlags, image string, do func() error) error {
	if c.pull == "always" {
		if err := a.pullFor(ctx, c, image); err != nil {
			return err
		}
	}
	err := do()
	if c.pull != "missing" && c.pull != "" || !errdefs.IsNotFound(err) || !strings.Contains(strings.ToLower(err.Error()), "image") {
		return err
	}
	ref, perr := console.ParseRef(image)
	if perr != nil {
		return err
	}
	if ref.Tag == "" && ref.Digest == "" {
		ref.Tag = "latest"
	}
	if !c.quiet {
		_, _ = fmt.Fprintf(a.Err, "Unable to find image '%s' locally\n", ref.FamiliarString())
	}
	if err := a.pullFor(ctx, c, image); err != nil {
		return err
	}
	return do()
}

func (a *app) pullFor(ctx context.Context, c *createFlags, image string) error {
	api, err := a.api(ctx)
	if err != nil {
		return err
	}
	auth, err := a.where.Auth(image)
	if err != nil {
		return err
	}
	body, err := api.Images.Pull(ctx, image, c.platform, false, auth)
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }()
	out := a.Err
	if c.quiet {
		out = io.Discard
	}
	return console.DisplayProgress(body, out)
}

// cidFile holds the place for a container's id: it must not exist before.
type cidFile struct {
	f       *os.File
	written bool
}

func openCIDFile(path string) (*cidFile, error) {
	if path == "" {
		return &cidFile{}, nil
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666)
	if errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("container ID file found, make sure the other container isn't running or delete %s", path)
	}
	if err != nil {
		return nil, fmt.Errorf("failed to create the container ID file: %w", err)
	}
	return &cidFile{f: f}, nil
}

func (c *cidFile) write(id string) error {
	if c.f == nil {
		return nil
	}
	c.written = true
	if _, err := c.f.WriteString(id); err != nil {
		return fmt.Errorf("failed to write the container ID to the file: %w", err)
	}
	return nil
}

func (c *cidFile) close() {
	if c.f == nil {
		return
	}
	_ = c.f.Close()
	if !c.written {
		_ = os.Remove(c.f.Name())
	}
}

// createContainer creates a container and returns its id.
func (a *app) createContainer(ctx context.Context, c *createFlags, spec *runflags.Spec) (string, error) {
	api, err := a.api(ctx)
	if err != nil {
		return "", err
	}
	cid, err := openCIDFile(c.options.CIDFile)
	if err != nil {
		return "", err
	}
	defer cid.close()
	w, h := console.Size(a.Out)
	spec.HostConfig.ConsoleSize = [2]uint{h, w}
	o := client.CreateOptions{Name: c.name, Platform: c.platform, Config: spec.Config, HostConfig: spec.HostConfig, Networking: spec.Networking}
	var id string
	err = a.withImage(ctx, c, spec.Config.Image, func() error {
		r, err := api.Containers.Create(ctx, o)
		if err != nil {
			return err
		}
		id = r.ID
		a.warn(append(r.Warnings, dnsWarnings(spec)...))
		return nil
	})
	if err != nil {
		return "", err
	}
	return id, cid.write(id)
}

func (a *app) warn(warnings []string) {
	for _, w := range warnings {
		_, _ = fmt.Fprintln(a.Err, "WARNING:", w)
	}
}

func dnsWarnings(spec *runflags.Spec) []string {
	for _, d := range spec.HostConfig.DNS {
		if d.IsLoopback() {
			return []string{fmt.Sprintf("Localhost DNS (%s) may fail in containers.", d)}
		}
	}
	return nil
}

func (a *app) create() *cobra.Command {
	f := &createFlags{verb: "create"}
	c := a.command("create [OPTIONS] IMAGE [COMMAND] [ARG...]", "Create a new container", minArgs(1), func(ctx context.Context, args []string) error {
		spec, err := a.parse(f, args)
		if err != nil {
			return a.refused("create", err)
		}
		id, err := a.createContainer(ctx, f, spec)
		if err != nil {
			return err
		}
		_, _ = fmt.Fprintln(a.Out, id)
		return nil
	})
	f.register(a, c.Flags())
	return a.also(c, "container create", "create")
}
