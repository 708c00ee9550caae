package compose

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/moby/moby/api/types/container"
	"golang.org/x/sync/errgroup"

	"muelle/api"
	"muelle/client"
	"muelle/internal/compose/display"
	"muelle/internal/compose/model"
)

// scope is what a command on existing containers works on: a project's name, and
// its files' contents where there are files.
type scope struct {
	name  string
	model *types.Project // nil without files
}

// scope finds the project by -p or by its files. Unset variables are warned of, but
// environment files need not be there.
func (a *app) scope(ctx context.Context) (scope, error) {
	if a.name != "" && len(a.files) == 0 {
		return scope{name: a.name}, nil
	}
	o := a.options(nil)
	o.Lenient = true
	p, err := model.Load(ctx, o)
	if err != nil {
		if name := os.Getenv("COMPOSE_PROJECT_NAME"); name != "" && len(a.files) == 0 {
			return scope{name: name}, nil
		}
		return scope{}, err
	}
	return scope{name: p.Name, model: p}, nil
}

// known are the services that the files declare, active or not; nil without files.
func (s scope) known() []string {
	if s.model == nil {
		return nil
	}
	return append(s.model.ServiceNames(), s.model.DisabledServiceNames()...)
}

// check refuses services that the files do not declare.
func (s scope) check(services []string) error {
	if s.model == nil {
		return nil
	}
	for _, name := range services {
		if _, ok := s.model.Services[name]; ok {
			continue
		}
		if _, ok := s.model.DisabledServices[name]; !ok {
			return fmt.Errorf("no such service: %s", name)
		}
	}
	return nil
}

func (a *app) projectAction(ctx context.Context, title string, services []string,
	call func(context.Context, *client.Client, string, func(api.ProjectProgress)) error,
) error {
	s, err := a.scope(ctx)
	if err != nil {
		return err
	}
	if err := s.check(services); err != nil {
		return err
	}
	c, err := a.client(ctx)
	if err != nil {
		return err
	}
	return a.action(ctx, title, func(ctx context.Context, line func(api.ProjectProgress)) error {
		return call(ctx, c, s.name, line)
	})
}

// containers lists a project's containers of the given services (none: all), in
// the order of their names and numbers.
func (a *app) containers(ctx context.Context, c *client.Client, s scope, services []string, all, oneOff bool) ([]container.Summary, error) {
	if err := s.check(services); err != nil {
		return nil, err
	}
	list, err := c.Containers.List(ctx, client.ListOptions{All: all, Filters: projectFilter(s.name)})
	if err != nil {
		return nil, err
	}
	list = slices.DeleteFunc(list, func(m container.Summary) bool {
		if m.Labels[api.LabelOneOff] == "True" && !oneOff {
			return true
		}
		return len(services) > 0 && !slices.Contains(services, m.Labels[api.LabelService])
	})
	slices.SortFunc(list, func(x, y container.Summary) int {
		if x.Labels[api.LabelService] == y.Labels[api.LabelService] {
			if nx, ny := number(x), number(y); nx != ny {
				return nx - ny
			}
		}
		return strings.Compare(containerName(x), containerName(y))
	})
	return list, nil
}

func number(c container.Summary) int {
	n, err := strconv.Atoi(c.Labels[api.LabelContainerNumber])
	if err != nil {
		return 0
	}
	return n
}

// each does something to containers at the same time, with a display.
func (a *app) each(ctx context.Context, title, doing, did string, list []container.Summary, do func(context.Context, container.Summary) error) error {
	ctx, stop := interruptible(ctx)
	defer stop()
	show := a.progress(title)
	defer show.Close()
	var eg errgroup.Group
	for _, m := range list {
		eg.Go(func() error {
			id := "Container " + containerName(m)
			show.On(display.Event{ID: id, Text: doing})
			if err := do(ctx, m); err != nil {
				show.On(display.Event{ID: id, Text: "Error", Details: err.Error(), State: display.Error})
				return err
			}
			show.On(display.Event{ID: id, Text: did, State: display.Done})
			return nil
		})
	}
	return interrupted(ctx, eg.Wait())
}

// onContainers runs do with the project's containers of the services.
func (a *app) onContainers(ctx context.Context, services []string, all bool,
	do func(ctx context.Context, c *client.Client, s scope, list []container.Summary) error,
) error {
	s, err := a.scope(ctx)
	if err != nil {
		return err
	}
	c, err := a.client(ctx)
	if err != nil {
		return err
	}
	list, err := a.containers(ctx, c, s, services, all, false)
	if err != nil {
		return err
	}
	return do(ctx, c, s, list)
}

// one is the container of a service that exec, port and the like mean.
func (a *app) one(ctx context.Context, c *client.Client, s scope, service string, index int) (container.Summary, error) {
	list, err := a.containers(ctx, c, s, []string{service}, false, true)
	if err != nil {
		return container.Summary{}, err
	}
	slices.SortStableFunc(list, func(x, y container.Summary) int {
		// One-off containers come last.
		return strings.Compare(x.Labels[api.LabelOneOff], y.Labels[api.LabelOneOff])
	})
	for _, m := range list {
		if index == 0 || number(m) == index {
			return m, nil
		}
	}
	if index > 0 {
		return container.Summary{}, fmt.Errorf("service %q is not running container #%d", service, index)
	}
	return container.Summary{}, fmt.Errorf("service %q is not running", service)
}
