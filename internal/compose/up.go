package compose

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/spf13/cobra"

	"muelle/api"
	"muelle/internal/compose/model"
)

// upFlags are those of up, create, scale and run.
type upFlags struct {
	detach, build, noBuild, quietPull, quietBuild     bool
	forceRecreate, noRecreate, recreateDeps           bool
	noStart, noDeps, removeOrphans, renewAnon         bool
	abortOnExit, abortOnFailure, wait                 bool
	noColor, noPrefix, timestamps, attachDependencies bool
	watch, menu, yes                                  bool
	pull, exitCodeFrom                                string
	scale, attach, noAttach                           []string
	timeout, waitTimeout                              int
}

func (a *app) upCommand() *cobra.Command {
	var o upFlags
	cmd := &cobra.Command{
		Use:   "up [OPTIONS] [SERVICE...]",
		Short: "Create and start containers",
		RunE: func(cmd *cobra.Command, services []string) error {
			if err := o.check(); err != nil {
				return err
			}
			return a.up(cmd, &o, services)
		},
	}
	f := cmd.Flags()
	o.createFlags(cmd)
	f.BoolVarP(&o.detach, "detach", "d", false, "Detached mode: Run containers in the background")
	f.BoolVar(&o.noColor, "no-color", false, "Produce monochrome output")
	f.BoolVar(&o.noPrefix, "no-log-prefix", false, "Don't print prefix in logs")
	f.BoolVar(&o.noStart, "no-start", false, "Don't start the services after creating them")
	f.BoolVar(&o.abortOnExit, "abort-on-container-exit", false, "Stops all containers if any container was stopped. Incompatible with -d")
	f.BoolVar(&o.abortOnFailure, "abort-on-container-failure", false, "Stops all containers if any container exited with failure. Incompatible with -d")
	f.StringVar(&o.exitCodeFrom, "exit-code-from", "", "Return the exit code of the selected service container. Implies --abort-on-container-exit")
	f.IntVarP(&o.timeout, "timeout", "t", 0, "Use this timeout in seconds for container shutdown when attached or when containers are already running")
	f.BoolVar(&o.timestamps, "timestamps", false, "Show timestamps")
	f.BoolVar(&o.noDeps, "no-deps", false, "Don't start linked services")
	f.BoolVar(&o.recreateDeps, "always-recreate-deps", false, "Recreate dependent containers. Incompatible with --no-recreate.")
	f.BoolVarP(&o.renewAnon, "renew-anon-volumes", "V", false, "Recreate anonymous volumes instead of retrieving data from the previous containers")
	f.StringArrayVar(&o.attach, "attach", nil, "Restrict attaching to the specified services. Incompatible with --attach-dependencies.")
	f.StringArrayVar(&o.noAttach, "no-attach", nil, "Do not attach (stream logs) to the specified services")
	f.BoolVar(&o.attachDependencies, "attach-dependencies", false, "Automatically attach to log output of dependent services")
	f.BoolVar(&o.wait, "wait", false, "Wait for services to be running|healthy. Implies detached mode.")
	f.IntVar(&o.waitTimeout, "wait-timeout", 0, "Maximum duration in seconds to wait for the project to be running|healthy")
	f.BoolVarP(&o.watch, "watch", "w", false, "Watch source code and rebuild/refresh containers when files are updated.")
	f.BoolVar(&o.menu, "menu", false, "Enable interactive shortcuts when running attached. Incompatible with --detach.")
	return cmd
}

// createFlags are what up and create share.
func (o *upFlags) createFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.BoolVar(&o.build, "build", false, "Build images before starting containers")
	f.BoolVar(&o.noBuild, "no-build", false, "Don't build an image, even if it's policy")
	f.StringVar(&o.pull, "pull", "policy", `Pull image before running ("always"|"missing"|"never")`)
	f.BoolVar(&o.removeOrphans, "remove-orphans", false, "Remove containers for services not defined in the Compose file")
	f.StringArrayVar(&o.scale, "scale", nil, "Scale SERVICE to NUM instances. Overrides the `scale` setting in the Compose file if present.")
	f.BoolVar(&o.forceRecreate, "force-recreate", false, "Recreate containers even if their configuration and image haven't changed")
	f.BoolVar(&o.noRecreate, "no-recreate", false, "If containers already exist, don't recreate them. Incompatible with --force-recreate.")
	f.BoolVar(&o.quietPull, "quiet-pull", false, "Pull without printing progress information")
	f.BoolVar(&o.quietBuild, "quiet-build", false, "Suppress the build output")
	f.BoolVarP(&o.yes, "yes", "y", false, `Assume "yes" as answer to all prompts and run non-interactively`)
}

func (o *upFlags) check() error {
	if o.watch {
		return errors.New("--watch is not supported by Muelle yet")
	}
	if o.menu {
		return errors.New("--menu is not supported by Muelle yet")
	}
	if o.waitTimeout < 0 {
		return errors.New("--wait-timeout must be a non-negative integer")
	}
	if o.exitCodeFrom != "" && !o.abortOnFailure {
		o.abortOnExit = true
	}
	attached := o.attachDependencies || o.abortOnExit || o.abortOnFailure || len(o.attach) > 0
	if o.wait {
		if attached {
			return errors.New("--wait cannot be combined with --abort-on-container-exit, --attach or --attach-dependencies")
		}
		o.detach = true
	}
	for _, pair := range []struct {
		both bool
		text string
	}{
		{o.abortOnExit && o.abortOnFailure, "--abort-on-container-failure cannot be combined with --abort-on-container-exit"},
		{o.detach && attached, "--detach cannot be combined with --abort-on-container-exit, --abort-on-container-failure, --attach, --attach-dependencies or --watch"},
		{o.build && o.noBuild, "--build and --no-build are incompatible"},
		{o.renewAnon && o.noRecreate, "--no-recreate and --renew-anon-volumes are incompatible"},
		{o.forceRecreate && o.noRecreate, "--force-recreate and --no-recreate are incompatible"},
		{o.recreateDeps && o.noRecreate, "--always-recreate-deps and --no-recreate are incompatible"},
		{len(o.attach) > 0 && o.attachDependencies, "cannot combine --attach and --attach-dependencies"},
	} {
		if pair.both {
			return errors.New(pair.text)
		}
	}
	return nil
}

// prepare loads the project, applies the flags to it and makes its images.
func (a *app) prepare(ctx context.Context, cmd *cobra.Command, o *upFlags, services []string) (*types.Project, api.ProjectUpRequest, error) {
	var req api.ProjectUpRequest
	p, err := a.load(ctx, services)
	if err != nil {
		return nil, req, err
	}
	if o.noDeps {
		if p, err = p.WithSelectedServices(services, types.IgnoreDependencies); err != nil {
			return nil, req, err
		}
	}
	if len(p.Services) == 0 && !a.all {
		return nil, req, errors.New("no service selected")
	}
	if o.exitCodeFrom != "" {
		if _, err := p.GetService(o.exitCodeFrom); err != nil {
			return nil, req, err
		}
	}
	if err := o.apply(cmd, p); err != nil {
		return nil, req, err
	}
	req.Spec, err = model.Spec(p, absolute(a.envFiles), a.warn)
	if err != nil {
		return nil, req, err
	}
	req.Options = api.ProjectUpOptions{
		Services: services, NoDeps: o.noDeps, NoStart: o.noStart,
		ForceRecreate: o.forceRecreate, RecreateDeps: o.recreateDeps, NoRecreate: o.noRecreate,
		RemoveOrphans: o.removeOrphans || !cmd.Flags().Changed("remove-orphans") && isTrue(os.Getenv("COMPOSE_REMOVE_ORPHANS")),
		IgnoreOrphans: isTrue(p.Environment["COMPOSE_IGNORE_ORPHANS"]),
		Wait:          o.wait, WaitTimeout: time.Duration(o.waitTimeout) * time.Second,
		Timeout: seconds(cmd, "timeout", o.timeout), RenewAnonVolumes: o.renewAnon,
	}
	if req.Options.IgnoreOrphans && req.Options.RemoveOrphans {
		return nil, req, errors.New("cannot combine COMPOSE_IGNORE_ORPHANS and --remove-orphans")
	}
	return p, req, a.ensureImages(ctx, p, o)
}

// apply puts --pull, --build and --scale into the project.
func (o *upFlags) apply(cmd *cobra.Command, p *types.Project) error {
	pull := ""
	if cmd.Flags().Changed("pull") {
		if !slices.Contains([]string{"always", "never", "build", "missing", "if_not_present"}, o.pull) {
			return fmt.Errorf("invalid --pull option %q", o.pull)
		}
		pull = o.pull
	}
	scale, err := parseScale(o.scale)
	if err != nil {
		return err
	}
	for name := range scale {
		if _, err := p.GetService(name); err != nil {
			return err
		}
	}
	for name, s := range p.Services {
		if pull != "" {
			s.PullPolicy = pull
		}
		if o.build && s.Build != nil {
			s.PullPolicy = types.PullPolicyBuild
		}
		if n, ok := scale[name]; ok {
			s.SetScale(n)
		}
		p.Services[name] = s
	}
	return nil
}

func parseScale(args []string) (map[string]int, error) {
	out := map[string]int{}
	for _, arg := range args {
		name, val, ok := strings.Cut(arg, "=")
		if !ok || val == "" {
			return nil, fmt.Errorf("invalid --scale option %q. Should be SERVICE=NUM", arg)
		}
		n, err := strconv.Atoi(val)
		if err != nil {
			return nil, err
		}
		out[name] = n
	}
	return out, nil
}

func isTrue(s string) bool {
	b, err := strconv.ParseBool(strings.ToLower(s))
	return err == nil && b || strings.EqualFold(s, "y") || strings.EqualFold(s, "yes")
}

func (a *app) up(cmd *cobra.Command, o *upFlags, services []string) error {
	ctx, stop := interruptible(cmd.Context())
	defer stop()
	p, req, err := a.prepare(ctx, cmd, o, services)
	if err != nil {
		return interrupted(ctx, err)
	}
	if !o.detach && !o.noStart {
		stop()
		return a.upAttached(cmd.Context(), p, req, o, services)
	}
	c, err := a.client(ctx)
	if err != nil {
		return err
	}
	return a.action(ctx, "up", func(ctx context.Context, line func(api.ProjectProgress)) error {
		return c.Projects.Up(ctx, p.Name, req, line)
	})
}

// action runs one of the daemon's project calls with a display.
func (a *app) action(ctx context.Context, title string, call func(context.Context, func(api.ProjectProgress)) error) error {
	ctx, stop := interruptible(ctx)
	defer stop()
	show := a.progress(title)
	own := ""
	line := report(show)
	err := call(ctx, func(p api.ProjectProgress) {
		if p.ID == api.ProgressFailure {
			own = p.Error
		}
		line(p)
	})
	show.Close()
	return interrupted(ctx, plainly(err, own))
}
