package project

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	ctypes "github.com/moby/moby/api/types/container"

	"muelle/api"
	"muelle/internal/container"
	"muelle/internal/filter"
)

var noTime time.Time

// member is a container of a project as it was seen.
type member struct {
	ctypes.Summary
	name    string
	service string
	number  int
	oneOff  bool
}

func (m member) running() bool { return m.State == ctypes.StateRunning }

// id is the member's name in progress lines.
func (m member) id() string { return containerID(m.name) }

func containerID(name string) string { return "Container " + name }

// members lists the containers of a project, or of all projects for an empty name,
// in any state and in a stable order.
func (s *Service) members(ctx context.Context, project string) ([]member, error) {
	label := api.LabelProject
	if project != "" {
		label += "=" + project
	}
	list, err := s.containers.List(ctx, container.ListOptions{All: true, Filters: filter.Args{"label": {label}}})
	if err != nil {
		return nil, fmt.Errorf("list containers of project: %w", err)
	}
	out := make([]member, 0, len(list))
	for _, c := range list {
		if c.State == ctypes.StateRemoving {
			continue
		}
		out = append(out, newMember(c))
	}
	slices.SortFunc(out, func(a, b member) int {
		if a.number != b.number {
			return a.number - b.number
		}
		return strings.Compare(a.name, b.name)
	})
	return out, nil
}

func newMember(c ctypes.Summary) member {
	m := member{Summary: c, service: c.Labels[api.LabelService], oneOff: c.Labels[api.LabelOneOff] == "True"}
	if len(c.Names) > 0 {
		m.name = strings.TrimPrefix(c.Names[0], "/")
	}
	if n, err := strconv.Atoi(c.Labels[api.LabelContainerNumber]); err == nil {
		m.number = n
	}
	return m
}

// byService groups what is not one-off.
func byService(all []member) map[string][]member {
	out := map[string][]member{}
	for _, m := range all {
		if !m.oneOff {
			out[m.service] = append(out[m.service], m)
		}
	}
	return out
}

// labelGraph is the graph as the containers' labels tell it.
func labelGraph(groups map[string][]member) (*graph, error) {
	deps := map[string]map[string]api.ProjectDependency{}
	for service, ms := range groups {
		deps[service] = map[string]api.ProjectDependency{}
		for _, m := range ms {
			for dep, how := range parseDependsOn(m.Labels[api.LabelDependsOn]) {
				deps[service][dep] = how
			}
		}
	}
	return newGraph(deps)
}

func summarize(name string, ms []member) api.ProjectSummary {
	p := api.ProjectSummary{Name: name}
	states := map[string]int{}
	services := map[string]bool{}
	for _, m := range ms {
		if m.oneOff {
			continue
		}
		states[string(m.State)]++
		services[m.service] = true
		p.WorkingDir = m.Labels[api.LabelWorkingDir]
		for _, f := range strings.Split(m.Labels[api.LabelConfigFiles], ",") {
			if f != "" && !slices.Contains(p.ConfigFiles, f) {
				p.ConfigFiles = append(p.ConfigFiles, f)
			}
		}
	}
	p.Services = sortedKeys(services)
	var parts []string
	for _, st := range sortedKeys(states) {
		parts = append(parts, fmt.Sprintf("%s(%d)", st, states[st]))
	}
	p.Status = strings.Join(parts, ", ")
	return p
}

// selected says whether a service is among those asked for; none asked for means
// all.
func selected(services []string, name string) bool {
	return len(services) == 0 || slices.Contains(services, name)
}
