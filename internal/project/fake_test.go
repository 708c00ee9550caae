package project_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/errdefs"
	ctypes "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/volume"
	"github.com/opencontainers/go-digest"

	"muelle/api"
	"muelle/internal/container"
	"muelle/internal/filter"
	"muelle/internal/image"
	enetwork "muelle/internal/network"
	"muelle/internal/policy"
	"muelle/internal/project"
)

// engine is the nouns below a project, in memory. Every change is one line of log.
type engine struct {
	mu       sync.Mutex
	log      []string
	next     int
	cs       []*fakeContainer
	nets     []network.Summary
	vols     []volume.Volume
	digests  map[string]string
	pending  []string
	failures map[string]error                  // by log line
	onStart  func(e *engine, c *fakeContainer) // under mu
	changed  chan struct{}
}

type fakeContainer struct {
	id, name string
	o        container.CreateOptions
	state    ctypes.State
}

func newEngine() *engine {
	return &engine{digests: map[string]string{}, failures: map[string]error{}, changed: make(chan struct{})}
}

// record notes an action and returns the failure that is planned for it.
func (e *engine) record(format string, args ...any) error {
	line := fmt.Sprintf(format, args...)
	e.log = append(e.log, line)
	return e.failures[line]
}

func (e *engine) change() {
	close(e.changed)
	e.changed = make(chan struct{})
}

// taken returns the log and empties it.
func (e *engine) taken() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	l := e.log
	e.log = nil
	return l
}

func (e *engine) find(ref string) (*fakeContainer, error) {
	for _, c := range e.cs {
		if c.id == ref || c.name == ref {
			return c, nil
		}
	}
	return nil, errdefs.ErrNotFound.WithMessage("No such container: " + ref)
}

// set changes a container's state.
func (e *engine) set(name string, f func(*ctypes.State)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c, err := e.find(name)
	if err != nil {
		panic(err)
	}
	f(&c.state)
	e.change()
}

type fakeContainers struct{ *engine }

func (e fakeContainers) Create(_ context.Context, o container.CreateOptions) (ctypes.CreateResponse, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.record("create %s", o.Name); err != nil {
		return ctypes.CreateResponse{}, err
	}
	e.next++
	c := &fakeContainer{id: fmt.Sprintf("%064d", e.next), name: o.Name, o: o, state: ctypes.State{Status: ctypes.StateCreated}}
	e.cs = append(e.cs, c)
	return ctypes.CreateResponse{ID: c.id}, nil
}

func (e fakeContainers) Start(_ context.Context, ref string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	c, err := e.find(ref)
	if err != nil {
		return err
	}
	if err := e.record("start %s", c.name); err != nil {
		return err
	}
	c.state = ctypes.State{Status: ctypes.StateRunning, Running: true}
	if h := c.o.Config.Healthcheck; h != nil {
		c.state.Health = &ctypes.Health{Status: ctypes.Starting}
	}
	if e.onStart != nil {
		e.onStart(e.engine, c)
	}
	e.change()
	return nil
}

func (e fakeContainers) Stop(_ context.Context, ref string, _ container.StopOptions) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	c, err := e.find(ref)
	if err != nil {
		return err
	}
	if err := e.record("stop %s", c.name); err != nil {
		return err
	}
	c.state = ctypes.State{Status: ctypes.StateExited}
	e.change()
	return nil
}

func (e fakeContainers) Restart(_ context.Context, ref string, _ container.StopOptions) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	c, err := e.find(ref)
	if err != nil {
		return err
	}
	return e.record("restart %s", c.name)
}

func (e fakeContainers) Rename(_ context.Context, ref, name string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	c, err := e.find(ref)
	if err != nil {
		return err
	}
	if err := e.record("rename %s %s", c.name, name); err != nil {
		return err
	}
	c.name = name
	return nil
}

func (e fakeContainers) Remove(_ context.Context, ref string, _ container.RemoveOptions) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	c, err := e.find(ref)
	if err != nil {
		return err
	}
	if err := e.record("remove %s", c.name); err != nil {
		return err
	}
	e.cs = slices.DeleteFunc(e.cs, func(x *fakeContainer) bool { return x == c })
	e.change()
	return nil
}

func (e fakeContainers) List(_ context.Context, o container.ListOptions) ([]ctypes.Summary, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []ctypes.Summary
	for _, c := range e.cs {
		if !o.Filters.MatchLabels("label", c.o.Config.Labels) {
			continue
		}
		s := ctypes.Summary{ID: c.id, Names: []string{"/" + c.name}, Labels: c.o.Config.Labels, State: c.state.Status, NetworkSettings: &ctypes.NetworkSettingsSummary{Networks: map[string]*network.EndpointSettings{}}}
		for name := range c.o.Networking.EndpointsConfig {
			s.NetworkSettings.Networks[name] = &network.EndpointSettings{NetworkID: name}
		}
		for _, b := range c.o.HostConfig.Binds {
			f := strings.Split(b, ":")
			s.Mounts = append(s.Mounts, ctypes.MountPoint{Type: mount.TypeVolume, Name: f[0], Destination: f[1]})
		}
		for _, m := range c.o.HostConfig.Mounts {
			name := m.Source
			if name == "" {
				name = "anonymous-" + c.id[60:]
			}
			s.Mounts = append(s.Mounts, ctypes.MountPoint{Type: m.Type, Name: name, Destination: m.Target, RW: true})
		}
		out = append(out, s)
	}
	return out, nil
}

func (e fakeContainers) AwaitState(ctx context.Context, ref string, until func(*ctypes.State) (bool, error)) error {
	for {
		e.mu.Lock()
		c, err := e.find(ref)
		if err != nil {
			e.mu.Unlock()
			return err
		}
		st, changed := c.state, e.changed
		e.mu.Unlock()
		if done, err := until(&st); done || err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (e fakeContainers) Pending() []string { return e.pending }

func (e fakeContainers) FollowZones(context.Context) error { return e.record("ports follow zones") }

type fakeNetworks struct{ *engine }

func (e fakeNetworks) Create(_ context.Context, r network.CreateRequest) (network.CreateResponse, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.record("create network %s", r.Name); err != nil {
		return network.CreateResponse{}, err
	}
	e.nets = append(e.nets, network.Summary{Network: network.Network{Name: r.Name, ID: r.Name, Labels: r.Labels, Options: r.Options}})
	return network.CreateResponse{ID: r.Name}, nil
}

func (e fakeNetworks) List(_ context.Context, f filter.Args) ([]network.Summary, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []network.Summary
	for _, n := range e.nets {
		if f.MatchLabels("label", n.Labels) {
			out = append(out, n)
		}
	}
	return out, nil
}

func (e fakeNetworks) SetZone(_ context.Context, ref string, z api.Zone) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	i := slices.IndexFunc(e.nets, func(n network.Summary) bool { return n.ID == ref })
	e.nets[i].Options = policy.ToOptions(e.nets[i].Options, z)
	return e.record("zone of network %s publish %s", ref, z.Publish)
}

func (fakeNetworks) Snapshot() enetwork.Snapshot { return enetwork.Snapshot{} }

func (fakeNetworks) NetNS(string) (*os.File, error) { return nil, errdefs.ErrNotFound }

func (fakeNetworks) Queries(string) []api.DNSQuery { return nil }

func (fakeNetworks) Warnings() []string { return nil }

func (e fakeContainers) Evidence(_ context.Context, ref string) (*container.Evidence, error) {
	return nil, errdefs.ErrNotFound.WithMessage("No such container: " + ref)
}

func (e fakeNetworks) Remove(_ context.Context, ref string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.record("remove network %s", ref); err != nil {
		return err
	}
	e.nets = slices.DeleteFunc(e.nets, func(n network.Summary) bool { return n.ID == ref })
	return nil
}

type fakeVolumes struct{ *engine }

func (e fakeVolumes) Create(_ context.Context, r volume.CreateRequest) (*volume.Volume, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	v := volume.Volume{Name: r.Name, Labels: r.Labels}
	e.vols = append(e.vols, v)
	return &v, e.record("create volume %s", r.Name)
}

func (e fakeVolumes) List(_ context.Context, f filter.Args) ([]volume.Volume, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []volume.Volume
	for _, v := range e.vols {
		if f.MatchLabels("label", v.Labels) {
			out = append(out, v)
		}
	}
	return out, nil
}

func (e fakeVolumes) Remove(_ context.Context, name string, _ bool) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.vols = slices.DeleteFunc(e.vols, func(v volume.Volume) bool { return v.Name == name })
	return e.record("remove volume %s", name)
}

type fakeImages struct{ *engine }

func (e fakeImages) Get(_ context.Context, ref string) (*image.Image, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if ref == "missing" {
		return nil, errdefs.ErrNotFound.WithMessage("No such image: missing:latest")
	}
	d := e.digests[ref]
	if d == "" {
		d = ref
	}
	return &image.Image{ID: digest.FromString(d)}, nil
}

// open makes a Service over the engine.
func open(t *testing.T, e *engine) *project.Service {
	t.Helper()
	return openAt(t, e, t.TempDir())
}

func openAt(t *testing.T, e *engine, root string) *project.Service {
	t.Helper()
	s, err := project.Open(t.Context(), project.Options{
		Root: root, Containers: fakeContainers{e}, Networks: fakeNetworks{e}, Volumes: fakeVolumes{e}, Images: fakeImages{e},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// spec is a project of services written as "name" or "name>dep:condition,dep:…".
// A name that ends in + has a health check.
func spec(services ...string) api.ProjectSpec {
	p := api.ProjectSpec{
		Version: api.ProjectSpecVersion, Name: "p",
		Networks: []api.ProjectNetwork{{Key: "default", Name: "p_default", ConfigHash: "n1"}},
	}
	for _, s := range services {
		name, deps, _ := strings.Cut(s, ">")
		name, healthy := strings.CutSuffix(name, "+")
		svc := api.ProjectService{
			Name: name, Scale: 1, ConfigHash: "h-" + name, DependsOn: map[string]api.ProjectDependency{},
			Config: &ctypes.Config{Image: name}, HostConfig: &ctypes.HostConfig{NetworkMode: "default"},
			Endpoints: map[string]*network.EndpointSettings{"default": {Aliases: []string{name}}},
		}
		if healthy {
			svc.Config.Healthcheck = &ctypes.HealthConfig{Test: []string{"CMD", "true"}}
		}
		for _, d := range strings.FieldsFunc(deps, func(r rune) bool { return r == ',' }) {
			dep, condition, _ := strings.Cut(d, ":")
			if condition == "" {
				condition = "service_started"
			}
			restart := strings.HasSuffix(condition, "!")
			svc.DependsOn[dep] = api.ProjectDependency{Condition: strings.TrimSuffix(condition, "!"), Required: true, Restart: restart}
		}
		p.Services = append(p.Services, svc)
	}
	return p
}
