package compose

import (
	"context"
	"errors"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/moby/moby/api/types/container"
	"github.com/spf13/cobra"

	"muelle/api"
	"muelle/client"
	"muelle/internal/console"
)

type runFlags struct {
	upFlags
	detachRun, remove, servicePorts, useAliases, noTTY, interactive, quiet bool
	name, user, workdir, entrypoint                                        string
	env, envFiles, labels, publish, volumes, capAdd, capDrop               []string
}

func (a *app) runCommand() *cobra.Command {
	o := &runFlags{}
	cmd := &cobra.Command{
		Use:   "run [OPTIONS] SERVICE [COMMAND] [ARGS...]",
		Short: "Run a one-off command on a service",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.run(cmd, o, args[0], args[1:])
		},
	}
	f := cmd.Flags()
	f.SetInterspersed(false)
	f.BoolVarP(&o.detachRun, "detach", "d", false, "Run container in background and print container ID")
	f.StringArrayVarP(&o.env, "env", "e", nil, "Set environment variables")
	f.StringArrayVar(&o.envFiles, "env-from-file", nil, "Set environment variables from file")
	f.StringArrayVarP(&o.labels, "label", "l", nil, "Add or override a label")
	f.BoolVar(&o.remove, "rm", false, "Automatically remove the container when it exits")
	f.BoolVarP(&o.noTTY, "no-tty", "T", !console.IsTerminal(a.Out), "Disable pseudo-TTY allocation (default: auto-detected)")
	f.StringVar(&o.name, "name", "", "Assign a name to the container")
	f.StringVarP(&o.user, "user", "u", "", "Run as specified username or uid")
	f.StringVarP(&o.workdir, "workdir", "w", "", "Working directory inside the container")
	f.StringVar(&o.entrypoint, "entrypoint", "", "Override the entrypoint of the image")
	f.StringArrayVar(&o.capAdd, "cap-add", nil, "Add Linux capabilities")
	f.StringArrayVar(&o.capDrop, "cap-drop", nil, "Drop Linux capabilities")
	f.BoolVar(&o.noDeps, "no-deps", false, "Don't start linked services")
	f.StringArrayVarP(&o.volumes, "volume", "v", nil, "Bind mount a volume")
	f.StringArrayVarP(&o.publish, "publish", "p", nil, "Publish a container's port(s) to the host")
	f.BoolVar(&o.useAliases, "use-aliases", false, "Use the service's network useAliases in the network(s) the container connects to")
	f.BoolVarP(&o.servicePorts, "service-ports", "P", false, "Run command with all service's ports enabled and mapped to the host")
	f.StringVar(&o.pull, "pull", "policy", `Pull image before running ("always"|"missing"|"never")`)
	f.BoolVarP(&o.quiet, "quiet", "q", false, "Don't print anything to STDOUT")
	f.BoolVar(&o.quietBuild, "quiet-build", false, "Suppress progress output from the build process")
	f.BoolVar(&o.quietPull, "quiet-pull", false, "Pull without printing progress information")
	f.BoolVar(&o.build, "build", false, "Build image before starting container")
	f.BoolVar(&o.removeOrphans, "remove-orphans", false, "Remove containers for services not defined in the Compose file")
	f.BoolVarP(&o.interactive, "interactive", "i", true, "Keep STDIN open even if not attached")
	return cmd
}

func (a *app) run(cmd *cobra.Command, o *runFlags, service string, command []string) error {
	ctx, stop := interruptible(cmd.Context())
	defer stop()
	// The service's own container is neither created nor touched.
	o.scale = []string{service + "=1"}
	p, req, err := a.prepare(ctx, cmd, &o.upFlags, []string{service})
	if err != nil {
		return interrupted(ctx, err)
	}
	c, err := a.client(ctx)
	if err != nil {
		return err
	}
	spec := pick(&req.Spec, service)
	if err := a.runDependencies(ctx, c, p, req, o); err != nil {
		return interrupted(ctx, err)
	}
	create, err := o.container(p, &req.Spec, spec, command, !o.noTTY && !o.detachRun && console.IsTerminal(a.In))
	if err != nil {
		return err
	}
	if create.HostConfig.Links, err = a.oldLinks(ctx, c, p.Name, create.HostConfig.Links); err != nil {
		return err
	}
	res, err := c.Containers.Create(ctx, create)
	if err != nil {
		return err
	}
	for _, w := range res.Warnings {
		a.warn(w)
	}
	if o.detachRun {
		if err := c.Containers.Start(ctx, res.ID); err != nil {
			return err
		}
		return a.print([]string{create.Name})
	}
	stop()
	return a.runAttached(cmd.Context(), c, res.ID, create, o)
}

// runDependencies brings up the dependencies (none with --no-deps), and in any case
// the networks and volumes, and waits for their gates.
func (a *app) runDependencies(ctx context.Context, c *client.Client, p *types.Project, req api.ProjectUpRequest, o *runFlags) error {
	req.Options.Services = nil
	req.Options.NoRecreate = true
	if o.noDeps {
		req.Spec.Services = nil
	}
	conditions := p.Services[req.Spec.Disabled[len(req.Spec.Disabled)-1]].DependsOn
	for _, how := range conditions {
		req.Options.Wait = req.Options.Wait || how.Condition != types.ServiceConditionStarted
	}
	show := a.progress("run")
	defer show.Close()
	return c.Projects.Up(ctx, p.Name, req, report(show))
}

func (a *app) runAttached(ctx context.Context, c *client.Client, id string, create client.CreateOptions, o *runFlags) error {
	conn, err := c.Containers.Attach(ctx, id, client.AttachOptions{Stdin: create.Config.OpenStdin, Stdout: true, Stderr: true, Stream: true})
	if err != nil {
		return errors.Join(err, c.Containers.Remove(ctx, id, client.RemoveOptions{Force: true}))
	}
	result, err := c.Containers.Wait(ctx, id, container.WaitConditionNextExit)
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	if err := c.Containers.Start(ctx, id); err != nil {
		err = errors.Join(err, conn.Close())
		if o.remove {
			err = errors.Join(err, c.Containers.Remove(ctx, id, client.RemoveOptions{Force: true, Volumes: true}))
		}
		return err
	}
	stop := a.forwardSignals(ctx, c, id)
	defer stop()
	err = a.stream(ctx, conn, create.Config.Tty, create.Config.OpenStdin, func(ctx context.Context, w, h uint) error { return c.Containers.Resize(ctx, id, w, h) })
	if err != nil {
		return err
	}
	end, err := result()
	if err != nil {
		return err
	}
	if o.remove {
		if err := c.Containers.Remove(ctx, id, client.RemoveOptions{Force: true, Volumes: true}); err != nil {
			return err
		}
	}
	if end.StatusCode != 0 {
		return &exitError{code: int(end.StatusCode)}
	}
	return nil
}
