package compose

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"muelle/client"
	"muelle/internal/compose/display"
)

// pull fetches one service's image.
func (a *app) pull(ctx context.Context, c *client.Client, s types.ServiceConfig, platform string, show *display.Progress, quiet bool) error {
	id := "Image " + s.Image
	show.On(display.Event{ID: id, Text: "Pulling"})
	err := a.transfer(ctx, s.Image, id, show, quiet, func() (io.ReadCloser, error) {
		auth, err := a.console.Auth(s.Image)
		if err != nil {
			return nil, err
		}
		return c.Images.Pull(ctx, s.Image, platform, false, auth)
	})
	switch {
	case err == nil:
		show.On(display.Event{ID: id, Text: "Pulled", State: display.Done})
	case ctx.Err() != nil:
		show.On(display.Event{ID: id, Text: "Interrupted", State: display.Warning})
	case s.Build != nil:
		show.On(display.Event{ID: id, Text: plain(err), State: display.Warning})
	default:
		show.On(display.Event{ID: id, Text: "Error", Details: plain(err), State: display.Error})
	}
	return err
}

// plain is the daemon's own text.
func plain(err error) string {
	e := new(client.Error)
	if errors.As(err, &e) {
		return e.Message
	}
	return err.Error()
}

// transfer shows a stream of a pull's or push's messages.
func (a *app) transfer(ctx context.Context, image, id string, show *display.Progress, quiet bool, begin func() (io.ReadCloser, error)) error {
	body, err := begin()
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }()
	for d := json.NewDecoder(body); ; {
		var m jsonstream.Message
		if err := d.Decode(&m); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("read progress of %s: %w", image, err)
		}
		if m.Error != nil {
			return errors.New(m.Error.Message)
		}
		if m.ID == "" || quiet {
			continue
		}
		e := display.Event{ID: m.ID, Parent: id, Text: m.Status}
		if m.Progress != nil {
			e.Current, e.Total = m.Progress.Current, m.Progress.Total
		}
		switch {
		case strings.HasPrefix(m.Status, "Pulling from"):
			continue
		case m.Status == "Pull complete", m.Status == "Already exists", m.Status == "Pushed", m.Status == "Layer already exists":
			e.State = display.Done
		}
		show.On(e)
	}
}

func (a *app) pullCommand() *cobra.Command {
	var quiet, includeDeps, ignoreBuildable, ignoreFailures bool
	var policy string
	cmd := &cobra.Command{
		Use:   "pull [OPTIONS] [SERVICE...]",
		Short: "Pull service images",
		RunE: func(cmd *cobra.Command, services []string) error {
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			if policy != "" && policy != "missing" && policy != "always" {
				return fmt.Errorf("invalid --policy option %q", policy)
			}
			p, c, err := a.selected(ctx, services, includeDeps)
			if err != nil {
				return err
			}
			present, err := presentImages(ctx, c, p)
			if err != nil {
				return err
			}
			return interrupted(ctx, a.pullServices(ctx, c, p, present, policy, quiet, ignoreBuildable, ignoreFailures))
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&quiet, "quiet", "q", false, "Pull without printing progress information")
	f.BoolVar(&includeDeps, "include-deps", false, "Also pull services declared as dependencies")
	f.BoolVar(&ignoreBuildable, "ignore-buildable", false, "Ignore images that can be built")
	f.BoolVar(&ignoreFailures, "ignore-pull-failures", false, "Pull what it can and ignores images with pull failures")
	f.StringVar(&policy, "policy", "", `Apply pull policy ("missing"|"always")`)
	return cmd
}

// selected loads the services asked for, without their dependencies unless deps.
func (a *app) selected(ctx context.Context, services []string, deps bool) (*types.Project, *client.Client, error) {
	p, err := a.load(ctx, services)
	if err != nil {
		return nil, nil, err
	}
	if !deps && len(services) > 0 {
		if p, err = p.WithSelectedServices(services, types.IgnoreDependencies); err != nil {
			return nil, nil, err
		}
	}
	c, err := a.client(ctx)
	return p, c, err
}

func (a *app) pullServices(ctx context.Context, c *client.Client, p *types.Project, present map[string]bool, policy string, quiet, ignoreBuildable, ignoreFailures bool) error {
	show := a.progress("pull")
	defer show.Close()
	scheduled := map[string]bool{}
	var mustBuild []string
	errs := make([]error, len(p.Services))
	var eg errgroup.Group
	for i, name := range p.ServiceNames() {
		s := p.Services[name]
		if policy != "" {
			s.PullPolicy = policy
		}
		skip := ""
		switch {
		case s.Image == "":
			show.On(display.Event{ID: name, Text: "Skipped", Details: "No image to be pulled", State: display.Done})
			continue
		case scheduled[s.Image]:
			continue
		case s.PullPolicy == types.PullPolicyNever, s.PullPolicy == types.PullPolicyBuild:
			skip = "Image is not to be pulled"
		case s.PullPolicy == types.PullPolicyMissing && present[s.Image]:
			skip = "Image is already present locally"
		case s.Build != nil && ignoreBuildable:
			skip = "Image can be built"
		}
		if skip != "" {
			show.On(display.Event{ID: "Image " + s.Image, Text: "Skipped", Details: skip, State: display.Done})
			continue
		}
		scheduled[s.Image] = true
		if s.Build != nil {
			mustBuild = append(mustBuild, name)
		}
		eg.Go(func() error {
			errs[i] = a.pull(ctx, c, s, platform(p, s), show, quiet)
			return nil
		})
	}
	_ = eg.Wait()
	err := errors.Join(errs...)
	if err != nil && len(mustBuild) > 0 {
		show.Warn("Some service image(s) must be built from source by running:\n    muelle compose build " + strings.Join(mustBuild, " "))
	}
	if ignoreFailures {
		return nil
	}
	return err
}

func (a *app) pushCommand() *cobra.Command {
	var quiet, includeDeps, ignoreFailures bool
	cmd := &cobra.Command{
		Use:   "push [OPTIONS] [SERVICE...]",
		Short: "Push service images",
		RunE: func(cmd *cobra.Command, services []string) error {
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			p, c, err := a.selected(ctx, services, includeDeps)
			if err != nil {
				return err
			}
			show := a.progress("push")
			defer show.Close()
			eg, ctx := errgroup.WithContext(ctx)
			for _, name := range p.ServiceNames() {
				s := p.Services[name]
				if s.Build == nil || s.Image == "" {
					show.On(display.Event{ID: name, Text: "Skipped", State: display.Done})
					continue
				}
				eg.Go(func() error {
					err := a.push(ctx, c, s, show, quiet)
					if ignoreFailures {
						return nil
					}
					return err
				})
			}
			return interrupted(ctx, eg.Wait())
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&quiet, "quiet", "q", false, "Push without printing progress information")
	f.BoolVar(&includeDeps, "include-deps", false, "Also push images of services declared as dependencies")
	f.BoolVar(&ignoreFailures, "ignore-push-failures", false, "Push what it can and ignores images with push failures")
	return cmd
}

func (a *app) push(ctx context.Context, c *client.Client, s types.ServiceConfig, show *display.Progress, quiet bool) error {
	id := "Image " + s.Image
	show.On(display.Event{ID: id, Text: "Pushing"})
	err := a.transfer(ctx, s.Image, id, show, quiet, func() (io.ReadCloser, error) {
		auth, err := a.console.Auth(s.Image)
		if err != nil {
			return nil, err
		}
		return c.Images.Push(ctx, s.Image, "", false, auth)
	})
	if err != nil {
		show.On(display.Event{ID: id, Text: "Error", Details: plain(err), State: display.Error})
		return err
	}
	show.On(display.Event{ID: id, Text: "Pushed", State: display.Done})
	return nil
}
