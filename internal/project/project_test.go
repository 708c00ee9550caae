package project_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	ctypes "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"

	"muelle/api"
	"muelle/internal/project"
)

func mustUp(t *testing.T, s *project.Service, p api.ProjectSpec, o api.ProjectUpOptions) []api.ProjectProgress {
	t.Helper()
	var lines []api.ProjectProgress
	if err := s.Up(t.Context(), p, o, func(l api.ProjectProgress) { lines = append(lines, l) }); err != nil {
		t.Fatal(err)
	}
	return lines
}

// sorted compares what happened in no particular order.
func sorted(l []string) []string {
	l = slices.Clone(l)
	slices.Sort(l)
	return l
}

func TestUpStartsInOrder(t *testing.T) {
	e := newEngine()
	s := open(t, e)
	mustUp(t, s, spec("web>api", "api>db", "db"), api.ProjectUpOptions{})
	log := e.taken()
	want := []string{"create network p_default", "create p-api-1", "create p-db-1", "create p-web-1", "start p-api-1", "start p-db-1", "start p-web-1"}
	if diff := cmp.Diff(sorted(want), sorted(log)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"start p-db-1", "start p-api-1", "start p-web-1"}, log[4:]); diff != "" {
		t.Error(diff)
	}
	lines := mustUp(t, s, spec("web>api", "api>db", "db"), api.ProjectUpOptions{})
	if log := e.taken(); len(log) > 0 {
		t.Errorf("a second up did %q", log)
	}
	if !slices.ContainsFunc(lines, func(l api.ProjectProgress) bool { return l.ID == "Container p-db-1" && l.Status == "Running" }) {
		t.Errorf("no Running among %v", lines)
	}
}

func TestUpLabelsAsDockerCompose(t *testing.T) {
	e := newEngine()
	s := open(t, e)
	p := spec("db", "web>db:service_started!")
	p.WorkingDir, p.ConfigFiles = "/src", []string{"/src/a.yaml", "/src/b.yaml"}
	p.Services[1].Config.Labels = map[string]string{"mine": "1"}
	mustUp(t, s, p, api.ProjectUpOptions{})
	c, err := e.find("p-web-1")
	if err != nil {
		t.Fatal(err)
	}
	got := c.o.Config.Labels
	delete(got, api.LabelImage)
	want := map[string]string{
		"mine": "1", api.LabelProject: "p", api.LabelService: "web", api.LabelConfigHash: "h-web", api.LabelContainerNumber: "1",
		api.LabelOneOff: "False", api.LabelDependsOn: "db:service_started:true", api.LabelWorkingDir: "/src",
		api.LabelConfigFiles: "/src/a.yaml,/src/b.yaml", api.LabelComposeVersion: api.ComposeVersion,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"p-web-1", "web"}, c.o.Networking.EndpointsConfig["p_default"].Aliases); diff != "" {
		t.Error(diff)
	}
	if c.o.HostConfig.NetworkMode != "p_default" {
		t.Errorf("network mode %s", c.o.HostConfig.NetworkMode)
	}
}

func TestGates(t *testing.T) {
	tests := []struct {
		name    string
		in      api.ProjectSpec
		onStart func(*engine, *fakeContainer)
		want    string // error
		started []string
	}{
		{
			name: "healthy", in: spec("web>db:service_healthy", "db+"),
			onStart: func(_ *engine, c *fakeContainer) {
				if c.state.Health != nil {
					c.state.Health.Status = ctypes.Healthy
				}
			},
			started: []string{"start p-db-1", "start p-web-1"},
		},
		{
			name: "unhealthy", in: spec("web>db:service_healthy", "db+"),
			onStart: func(_ *engine, c *fakeContainer) { c.state.Health.Status = ctypes.Unhealthy },
			want:    "dependency failed to start: container p-db-1 is unhealthy", started: []string{"start p-db-1"},
		},
		{
			name: "exited", in: spec("web>db:service_healthy", "db+"),
			onStart: func(_ *engine, c *fakeContainer) {
				c.state = ctypes.State{Status: ctypes.StateExited, ExitCode: 3}
			},
			want: "dependency failed to start: container p-db-1 exited (3)", started: []string{"start p-db-1"},
		},
		{
			name: "no healthcheck", in: spec("web>db:service_healthy", "db"),
			want: "dependency failed to start: container p-db-1 has no healthcheck configured", started: []string{"start p-db-1"},
		},
		{
			name: "completed", in: spec("web>job:service_completed_successfully", "job"),
			onStart: func(_ *engine, c *fakeContainer) {
				if c.name == "p-job-1" {
					c.state = ctypes.State{Status: ctypes.StateExited}
				}
			},
			started: []string{"start p-job-1", "start p-web-1"},
		},
		{
			name: "completed with failure", in: spec("web>job:service_completed_successfully", "job"),
			onStart: func(_ *engine, c *fakeContainer) { c.state = ctypes.State{Status: ctypes.StateExited, ExitCode: 7} },
			want:    `service "job" didn't complete successfully: exit 7`, started: []string{"start p-job-1"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := newEngine()
			e.onStart = tt.onStart
			err := open(t, e).Up(t.Context(), tt.in, api.ProjectUpOptions{}, nil)
			if got := text(err); got != tt.want {
				t.Errorf("error %q, want %q", got, tt.want)
			}
			started := slices.DeleteFunc(e.taken(), func(l string) bool { return !strings.HasPrefix(l, "start") })
			if diff := cmp.Diff(tt.started, started); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// A gate opens when the health changes later.
func TestGateWaitsForChange(t *testing.T) {
	e := newEngine()
	s := open(t, e)
	waiting := make(chan struct{})
	done := make(chan error)
	go func() {
		done <- s.Up(t.Context(), spec("web>db:service_healthy", "db+"), api.ProjectUpOptions{Wait: true}, func(l api.ProjectProgress) {
			if l.Status == "Waiting" && l.ID == "Container p-db-1" {
				select {
				case <-waiting:
				default:
					close(waiting)
				}
			}
		})
	}()
	<-waiting
	e.set("p-db-1", func(st *ctypes.State) { st.Health = &ctypes.Health{Status: ctypes.Healthy} })
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if log := e.taken(); log[len(log)-1] != "start p-web-1" {
		t.Errorf("%q", log)
	}
}

func TestRecreate(t *testing.T) {
	e := newEngine()
	s := open(t, e)
	p := spec("db")
	p.Services[0].HostConfig.Mounts = []mount.Mount{{Type: mount.TypeVolume, Target: "/data"}}
	mustUp(t, s, p, api.ProjectUpOptions{})
	old, err := e.find("p-db-1")
	if err != nil {
		t.Fatal(err)
	}
	anonymous := "anonymous-" + old.id[60:]
	e.taken()

	p.Services[0].ConfigHash = "other"
	mustUp(t, s, p, api.ProjectUpOptions{NoRecreate: true})
	if log := e.taken(); len(log) > 0 {
		t.Errorf("--no-recreate did %q", log)
	}
	mustUp(t, s, p, api.ProjectUpOptions{})
	temporary := old.id[:12] + "_p-db-1"
	want := []string{"create " + temporary, "stop p-db-1", "remove p-db-1", "rename " + temporary + " p-db-1", "start p-db-1"}
	if diff := cmp.Diff(want, e.taken()); diff != "" {
		t.Error(diff)
	}
	c, err := e.find("p-db-1")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]mount.Mount{{
		Type: mount.TypeVolume, Source: anonymous, Target: "/data",
		VolumeOptions: &mount.VolumeOptions{Labels: map[string]string{"com.docker.volume.anonymous": ""}},
	}}, c.o.HostConfig.Mounts); diff != "" {
		t.Error(diff)
	}
	if got := c.o.Config.Labels[api.LabelReplace]; got != "db-1" {
		t.Errorf("replace label %q", got)
	}

	// Another image under the same name.
	e.digests["db"] = "newer"
	mustUp(t, s, p, api.ProjectUpOptions{})
	if log := e.taken(); len(log) != 5 {
		t.Errorf("after the image changed: %q", log)
	}
	mustUp(t, s, p, api.ProjectUpOptions{ForceRecreate: true})
	if log := e.taken(); len(log) != 5 {
		t.Errorf("--force-recreate: %q", log)
	}
}

// What fails half-way leaves the old container running and no new one.
func TestRecreateIsUndone(t *testing.T) {
	e := newEngine()
	s := open(t, e)
	p := spec("db")
	mustUp(t, s, p, api.ProjectUpOptions{})
	e.taken()
	old, err := e.find("p-db-1")
	if err != nil {
		t.Fatal(err)
	}
	e.failures["stop p-db-1"] = errors.New("no")
	p.Services[0].ConfigHash = "other"
	if err := s.Up(t.Context(), p, api.ProjectUpOptions{}, nil); text(err) != "no" {
		t.Fatal(err)
	}
	if len(e.cs) != 1 || e.cs[0] != old || !old.state.Running {
		t.Errorf("left: %v", e.cs)
	}
}

// A daemon that is killed while it recreates leaves the old one and the new one, or
// the new one under its temporary name.
func TestRecreateIsFinished(t *testing.T) {
	for _, tt := range []struct {
		name    string
		oldGone bool
		want    []string
	}{
		{"both", false, []string{"stop p-db-1", "remove p-db-1", "rename 000000000000_p-db-1 p-db-1", "start p-db-1"}},
		{"new one", true, []string{"rename 000000000000_p-db-1 p-db-1", "start p-db-1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := newEngine()
			s := open(t, e)
			p := spec("db")
			p.Services[0].Scale = 2
			mustUp(t, s, p, api.ProjectUpOptions{})
			p.Services[0].ConfigHash = "other"
			mustUp(t, s, p, api.ProjectUpOptions{})
			c, err := e.find("p-db-1")
			if err != nil {
				t.Fatal(err)
			}
			c.name, c.state = "000000000000_p-db-1", ctypes.State{Status: ctypes.StateCreated}
			if !tt.oldGone {
				old := *c
				old.id, old.name, old.state = strings.Repeat("f", 64), "p-db-1", ctypes.State{Status: ctypes.StateRunning, Running: true}
				config := *c.o.Config
				config.Labels = maps.Clone(config.Labels)
				config.Labels[api.LabelConfigHash] = "before"
				old.o.Config = &config
				e.cs = append(e.cs, &old)
			}
			e.taken()
			mustUp(t, s, p, api.ProjectUpOptions{})
			if diff := cmp.Diff(tt.want, e.taken()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestScale(t *testing.T) {
	e := newEngine()
	s := open(t, e)
	p := spec("web")
	p.Services[0].Scale = 3
	mustUp(t, s, p, api.ProjectUpOptions{})
	e.taken()
	p.Services[0].Scale = 1
	mustUp(t, s, p, api.ProjectUpOptions{})
	if diff := cmp.Diff([]string{"remove p-web-2", "remove p-web-3", "stop p-web-2", "stop p-web-3"}, sorted(e.taken())); diff != "" {
		t.Error(diff)
	}
	p.Services[0].ContainerName = "fixed"
	p.Services[0].Scale = 2
	if err := s.Up(t.Context(), p, api.ProjectUpOptions{}, nil); !errdefs.IsInvalidArgument(err) {
		t.Errorf("scale with container_name: %v", err)
	}
}

func TestOrphans(t *testing.T) {
	e := newEngine()
	s := open(t, e)
	mustUp(t, s, spec("web", "old"), api.ProjectUpOptions{})
	e.taken()
	lines := mustUp(t, s, spec("web"), api.ProjectUpOptions{})
	want := "Found orphan containers (p-old-1) for this project. If you removed or renamed this service in your compose file, you can run this command with the --remove-orphans flag to clean it up."
	if !slices.ContainsFunc(lines, func(l api.ProjectProgress) bool { return l.ID == api.ProgressWarning && l.Status == want }) {
		t.Errorf("no warning among %v", lines)
	}
	p := spec("web")
	p.Disabled = []string{"old"}
	mustUp(t, s, p, api.ProjectUpOptions{RemoveOrphans: true})
	if log := e.taken(); len(log) > 0 {
		t.Errorf("a service that is only disabled: %q", log)
	}
	mustUp(t, s, spec("web"), api.ProjectUpOptions{RemoveOrphans: true})
	if diff := cmp.Diff([]string{"stop p-old-1", "remove p-old-1"}, e.taken()); diff != "" {
		t.Error(diff)
	}
}

func TestNetworkThatChangedIsMadeAnew(t *testing.T) {
	e := newEngine()
	s := open(t, e)
	p := spec("web")
	mustUp(t, s, p, api.ProjectUpOptions{})
	e.taken()
	p.Networks[0].ConfigHash = "n2"
	mustUp(t, s, p, api.ProjectUpOptions{})
	want := []string{"stop p-web-1", "remove p-web-1", "remove network p_default", "create network p_default", "create p-web-1", "start p-web-1"}
	if diff := cmp.Diff(want, e.taken()); diff != "" {
		t.Error(diff)
	}
}

func TestReferences(t *testing.T) {
	e := newEngine()
	s := open(t, e)
	p := spec("main", "side>main")
	side := &p.Services[1]
	side.HostConfig.NetworkMode, side.Endpoints = "service:main", nil
	side.HashTemplate = `{"network_mode":"container:` + api.ServiceRef("main") + `"}`
	mustUp(t, s, p, api.ProjectUpOptions{})
	main, _ := e.find("p-main-1")
	c, err := e.find("p-side-1")
	if err != nil {
		t.Fatal(err)
	}
	if got := string(c.o.HostConfig.NetworkMode); got != "container:"+main.id {
		t.Errorf("network mode %s", got)
	}
	e.taken()
	mustUp(t, s, p, api.ProjectUpOptions{})
	if log := e.taken(); len(log) > 0 {
		t.Errorf("a second up did %q", log)
	}
	// The one whose namespace is shared is replaced: so is the other.
	p.Services[0].ConfigHash = "other"
	mustUp(t, s, p, api.ProjectUpOptions{})
	if log := e.taken(); !slices.Contains(log, "remove p-side-1") {
		t.Errorf("%q", log)
	}
}

// TestLinksOfTheDefaultBridge: who is linked to is made first, though its name comes later.
func TestLinksOfTheDefaultBridge(t *testing.T) {
	e := newEngine()
	s := open(t, e)
	p := spec("asks", "answers")
	for i := range p.Services {
		p.Services[i].HostConfig.NetworkMode, p.Services[i].Endpoints = "bridge", nil
	}
	p.Services[0].HostConfig.Links = []string{"answers:a", "container:old:o"}
	mustUp(t, s, p, api.ProjectUpOptions{})
	answers, err := e.find("p-answers-1")
	if err != nil {
		t.Fatal(err)
	}
	asks, err := e.find("p-asks-1")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{answers.id + ":a", "old:o"}, asks.o.HostConfig.Links); diff != "" {
		t.Error(diff)
	}
}

func TestRefused(t *testing.T) {
	tests := []struct {
		name string
		in   func(*api.ProjectSpec)
		want string
	}{
		{"name", func(p *api.ProjectSpec) { p.Name = "../x" }, `invalid project name "../x"`},
		{"version", func(p *api.ProjectSpec) { p.Version = 99 }, "the project document has version 99"},
		{"cycle", func(p *api.ProjectSpec) { *p = spec("a>b", "b>c", "c>a") }, "dependency cycle detected: a -> b -> c -> a"},
		{"network", func(p *api.ProjectSpec) { p.Networks = nil }, `service "a" refers to undefined network default`},
		{"image", func(p *api.ProjectSpec) { p.Services[0].Config.Image = "missing" }, "No such image: missing:latest"},
		{"external network", func(p *api.ProjectSpec) { p.Networks[0].External = true }, "network p_default declared as external, but could not be found"},
		{"external volume", func(p *api.ProjectSpec) { p.Volumes = []api.ProjectVolume{{Key: "v", Name: "v", External: true}} }, `external volume "v" not found`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := spec("a")
			tt.in(&p)
			s := open(t, newEngine())
			err := s.Up(t.Context(), p, api.ProjectUpOptions{}, nil)
			if !strings.HasPrefix(text(err), tt.want) {
				t.Errorf("error %v, want %s", err, tt.want)
			}
		})
	}
}

func TestDown(t *testing.T) {
	e := newEngine()
	s := open(t, e)
	p := spec("web>api", "api>db", "db")
	p.Volumes = []api.ProjectVolume{{Key: "data", Name: "p_data"}}
	mustUp(t, s, p, api.ProjectUpOptions{})
	if _, err := s.Get("p"); err != nil {
		t.Fatal(err)
	}
	e.taken()
	if err := s.Down(t.Context(), "p", api.ProjectDownOptions{Volumes: true}, nil); err != nil {
		t.Fatal(err)
	}
	log := e.taken()
	want := []string{"stop p-web-1", "remove p-web-1", "stop p-api-1", "remove p-api-1", "stop p-db-1", "remove p-db-1"}
	if diff := cmp.Diff(want, log[:6]); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"remove network p_default", "remove volume p_data"}, sorted(log[6:])); diff != "" {
		t.Error(diff)
	}
	if _, err := s.Get("p"); !errdefs.IsNotFound(err) {
		t.Errorf("the record is still there: %v", err)
	}
	var lines []api.ProjectProgress
	if err := s.Down(t.Context(), "p", api.ProjectDownOptions{}, func(l api.ProjectProgress) { lines = append(lines, l) }); err != nil {
		t.Fatal(err)
	}
	if len(lines) != 1 || lines[0].Status != `No resource found to remove for project "p".` {
		t.Errorf("%v", lines)
	}
}

func TestDownLeavesOrphans(t *testing.T) {
	e := newEngine()
	s := open(t, e)
	mustUp(t, s, spec("web", "old"), api.ProjectUpOptions{})
	e.taken()
	e.failures["remove network p_default"] = errdefs.ErrPermissionDenied.WithMessage("has active endpoints")
	if err := s.Down(t.Context(), "p", api.ProjectDownOptions{Known: []string{"web"}}, nil); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"stop p-web-1", "remove p-web-1", "remove network p_default"}, e.taken()); diff != "" {
		t.Error(diff)
	}
}

// Projects that Docker Compose made are known by their labels.
func TestStopStartByLabels(t *testing.T) {
	e := newEngine()
	s := open(t, e)
	mustUp(t, s, spec("web>db", "db"), api.ProjectUpOptions{})
	e.taken()
	other := open(t, e) // without the record
	if err := other.Stop(t.Context(), "p", api.ProjectActionOptions{}, nil); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"stop p-web-1", "stop p-db-1"}, e.taken()); diff != "" {
		t.Error(diff)
	}
	if err := other.Start(t.Context(), "p", api.ProjectActionOptions{}, nil); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"start p-db-1", "start p-web-1"}, e.taken()); diff != "" {
		t.Error(diff)
	}
	if err := other.Start(t.Context(), "nobody", api.ProjectActionOptions{}, nil); !errdefs.IsNotFound(err) {
		t.Errorf("unknown project: %v", err)
	}
}

func TestRestartTakesDependents(t *testing.T) {
	e := newEngine()
	s := open(t, e)
	mustUp(t, s, spec("web>db:service_started!", "db", "other>db"), api.ProjectUpOptions{})
	e.taken()
	if err := s.Restart(t.Context(), "p", api.ProjectActionOptions{Services: []string{"db"}}, nil); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"restart p-db-1", "restart p-web-1"}, e.taken()); diff != "" {
		t.Error(diff)
	}
}

// After a reboot the order and the gates hold, and nothing is created.
func TestBoot(t *testing.T) {
	e := newEngine()
	root := t.TempDir()
	s := openAt(t, e, root)
	p := spec("web>db:service_healthy", "db+", "job")
	e.onStart = func(_ *engine, c *fakeContainer) {
		if c.state.Health != nil {
			c.state.Health.Status = ctypes.Healthy
		}
	}
	mustUp(t, s, p, api.ProjectUpOptions{})
	e.taken()
	started := make(chan string, 4)
	e.mu.Lock()
	for _, c := range e.cs {
		c.state = ctypes.State{Status: ctypes.StateExited}
		if c.name != "p-job-1" {
			e.pending = append(e.pending, c.id)
		}
	}
	e.onStart = func(_ *engine, c *fakeContainer) { started <- c.name }
	e.mu.Unlock()
	openAt(t, e, root)
	if got := <-started; got != "p-db-1" {
		t.Fatalf("%s came first", got)
	}
	// Unhealthy now may be healthy later.
	e.set("p-db-1", func(st *ctypes.State) { st.Health = &ctypes.Health{Status: ctypes.Unhealthy} })
	e.set("p-db-1", func(st *ctypes.State) { st.Health = &ctypes.Health{Status: ctypes.Healthy} })
	if got := <-started; got != "p-web-1" {
		t.Fatalf("%s came second", got)
	}
	if diff := cmp.Diff([]string{"start p-db-1", "start p-web-1"}, e.taken()); diff != "" {
		t.Error(diff)
	}
}

// A cancelled up ends without an orphan of its own.
func TestUpCancelled(t *testing.T) {
	e := newEngine()
	s := open(t, e)
	ctx, cancel := context.WithCancel(t.Context())
	err := s.Up(ctx, spec("web>db:service_healthy", "db+"), api.ProjectUpOptions{}, func(l api.ProjectProgress) {
		if l.Status == "Waiting" {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"create network p_default", "create p-db-1", "create p-web-1", "start p-db-1"}, sorted(e.taken())); diff != "" {
		t.Error(diff)
	}
}

func TestList(t *testing.T) {
	e := newEngine()
	s := open(t, e)
	p := spec("web", "db")
	p.ConfigFiles = []string{"/c.yaml"}
	mustUp(t, s, p, api.ProjectUpOptions{})
	e.set("p-db-1", func(st *ctypes.State) { st.Status = ctypes.StateExited })
	got, err := s.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []api.ProjectSummary{{Name: "p", Status: "exited(1), running(1)", ConfigFiles: []string{"/c.yaml"}, Services: []string{"db", "web"}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// A stop ends an up that waits, so that nothing is started behind its back.
func TestStopEndsUp(t *testing.T) {
	e := newEngine()
	s := open(t, e)
	waiting := make(chan struct{}, 1)
	done := make(chan error)
	go func() {
		done <- s.Up(t.Context(), spec("web>db:service_healthy", "db+"), api.ProjectUpOptions{}, func(l api.ProjectProgress) {
			if l.Status == "Waiting" {
				waiting <- struct{}{}
			}
		})
	}()
	<-waiting
	if err := s.Stop(t.Context(), "p", api.ProjectActionOptions{Services: []string{"db", "web"}}, nil); err != nil {
		t.Fatal(err)
	}
	if err := <-done; text(err) != "up of project p was ended by stop" {
		t.Error(err)
	}
	if log := e.taken(); slices.Contains(log, "start p-web-1") || log[len(log)-1] != "stop p-db-1" {
		t.Errorf("%q", log)
	}
}
