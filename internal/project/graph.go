package project

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	"golang.org/x/sync/errgroup"

	"muelle/api"
)

// graph is the dependency graph of a project: which services must be there before
// which. Edges to services that are not part of it do not exist.
type graph struct {
	names []string // sorted
	deps  map[string]map[string]api.ProjectDependency
}

// newGraph checks that the dependencies have no cycle.
func newGraph(deps map[string]map[string]api.ProjectDependency) (*graph, error) {
	g := &graph{deps: map[string]map[string]api.ProjectDependency{}}
	for name, on := range deps {
		g.names = append(g.names, name)
		g.deps[name] = map[string]api.ProjectDependency{}
		for dep, how := range on {
			if _, ok := deps[dep]; ok {
				g.deps[name][dep] = how
			}
		}
	}
	slices.Sort(g.names)
	if cycle := g.cycle(); cycle != nil {
		return nil, own(errdefs.ErrInvalidArgument, "dependency cycle detected: %s", strings.Join(cycle, " -> "))
	}
	return g, nil
}

// cycle returns the names along one cycle, or nil.
func (g *graph) cycle() []string {
	const open, done = 1, 2
	state := map[string]int{}
	var path []string
	var visit func(name string) []string
	visit = func(name string) []string {
		switch state[name] {
		case done:
			return nil
		case open:
			return append(slices.Clone(path[slices.Index(path, name):]), name)
		}
		state[name] = open
		path = append(path, name)
		for _, dep := range sortedKeys(g.deps[name]) {
			if c := visit(dep); c != nil {
				return c
			}
		}
		path = path[:len(path)-1]
		state[name] = done
		return nil
	}
	for _, name := range g.names {
		if c := visit(name); c != nil {
			return c
		}
	}
	return nil
}

// order lists the services so that dependencies come first.
func (g *graph) order() []string {
	var order []string
	seen := map[string]bool{}
	var visit func(name string)
	visit = func(name string) {
		if seen[name] {
			return
		}
		seen[name] = true
		for _, dep := range sortedKeys(g.deps[name]) {
			visit(dep)
		}
		order = append(order, name)
	}
	for _, name := range g.names {
		visit(name)
	}
	return order
}

// dependents are the services with an edge to name.
func (g *graph) dependents(name string) []string {
	var out []string
	for _, n := range g.names {
		if _, ok := g.deps[n][name]; ok {
			out = append(out, n)
		}
	}
	return out
}

// up visits every service after its dependencies, unrelated ones at the same time.
// The first error cancels the others' context and is returned when all have ended.
func (g *graph) up(ctx context.Context, visit func(ctx context.Context, name string) error) error {
	return walk(ctx, g.names, func(n string) []string { return sortedKeys(g.deps[n]) }, visit)
}

// down visits every service after those that depend on it.
func (g *graph) down(ctx context.Context, visit func(ctx context.Context, name string) error) error {
	return walk(ctx, g.names, g.dependents, visit)
}

func walk(ctx context.Context, names []string, before func(string) []string, visit func(context.Context, string) error) error {
	eg, ctx := errgroup.WithContext(ctx)
	done := make(map[string]chan struct{}, len(names))
	for _, n := range names {
		done[n] = make(chan struct{})
	}
	for _, n := range names {
		wait := before(n)
		eg.Go(func() error {
			for _, b := range wait {
				select {
				case <-done[b]:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			// Not closed on failure: nobody may go on behind a service that failed.
			if err := visit(ctx, n); err != nil {
				return err
			}
			close(done[n])
			return nil
		})
	}
	return eg.Wait()
}

// parseDependsOn reads com.docker.compose.depends_on: "db:service_healthy:false,…".
func parseDependsOn(label string) map[string]api.ProjectDependency {
	deps := map[string]api.ProjectDependency{}
	for _, item := range strings.Split(label, ",") {
		f := strings.Split(item, ":")
		if f[0] == "" {
			continue
		}
		d := api.ProjectDependency{Condition: conditionStarted, Required: true}
		if len(f) > 1 && f[1] != "" {
			d.Condition = f[1]
		}
		if len(f) > 2 {
			d.Restart = f[2] == "true"
		}
		deps[f[0]] = d
	}
	return deps
}

// formatDependsOn is its inverse.
func formatDependsOn(deps map[string]api.ProjectDependency) string {
	items := make([]string, 0, len(deps))
	for _, name := range sortedKeys(deps) {
		items = append(items, fmt.Sprintf("%s:%s:%t", name, deps[name].Condition, deps[name].Restart))
	}
	return strings.Join(items, ",")
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// locks are one mutex per project name.
type locks struct {
	mu sync.Mutex
	m  map[string]*lock
}

type lock struct {
	held  chan struct{}
	users int
}

// acquire waits for the project's lock or the context's end.
func (l *locks) acquire(ctx context.Context, name string) (release func(), err error) {
	l.mu.Lock()
	if l.m == nil {
		l.m = map[string]*lock{}
	}
	k := l.m[name]
	if k == nil {
		k = &lock{held: make(chan struct{}, 1)}
		l.m[name] = k
	}
	k.users++
	l.mu.Unlock()
	drop := func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if k.users--; k.users == 0 {
			delete(l.m, name)
		}
	}
	select {
	case k.held <- struct{}{}:
		return func() { <-k.held; drop() }, nil
	case <-ctx.Done():
		drop()
		return nil, ctx.Err()
	}
}

// closure are the named services and everything they depend on.
func (g *graph) closure(names []string) map[string]bool {
	in := map[string]bool{}
	var visit func(string)
	visit = func(n string) {
		if in[n] {
			return
		}
		in[n] = true
		for dep := range g.deps[n] {
			visit(dep)
		}
	}
	for _, n := range names {
		visit(n)
	}
	return in
}
