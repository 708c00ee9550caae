package compose_test

import (
	"bytes"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"

	"muelle/api"
	"muelle/internal/compose"
)

// daemon answers what the tests need and remembers what it was asked.
type daemon struct {
	mu       sync.Mutex
	requests []string
	up       api.ProjectUpRequest
	down     api.ProjectDownOptions
	lines    []api.ProjectProgress // of every project call
	list     []container.Summary
	projects []api.ProjectSummary
	log      map[string][]byte // by container
}

func (d *daemon) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	path := r.URL.Path
	if !strings.HasPrefix(path, api.Prefix) {
		_, path, _ = strings.Cut(path[1:], "/")
		path = "/" + path
	}
	d.requests = append(d.requests, r.Method+" "+path)
	answer := func(v any) {
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(v); err != nil {
			panic(err)
		}
	}
	switch {
	case strings.HasPrefix(path, "/images/absent"):
		w.WriteHeader(http.StatusNotFound)
		answer(map[string]string{"message": "No such image"})
	case strings.HasPrefix(path, "/images/"):
		answer(map[string]string{"Id": "sha256:1"})
	case path == api.Prefix+"/projects":
		answer(d.projects)
	case strings.HasSuffix(path, "/logs"):
		if _, err := w.Write(d.log[strings.Split(path, "/")[2]]); err != nil {
			panic(err)
		}
	case path == "/containers/json":
		answer(d.list)
	case strings.HasPrefix(path, "/containers/") && strings.HasSuffix(path, "/json") && d.log != nil:
		answer(container.InspectResponse{})
	case strings.HasSuffix(path, "/up"), strings.HasSuffix(path, "/down"):
		in := any(&d.up)
		if strings.HasSuffix(path, "/down") {
			in = &d.down
		}
		if err := json.NewDecoder(r.Body).Decode(in); err != nil {
			panic(err)
		}
		for _, l := range d.lines {
			answer(l)
		}
	default:
		w.WriteHeader(http.StatusNotFound)
		answer(map[string]string{"message": "page not found"})
	}
}

// serve starts the daemon and puts the project's file into the working directory.
func serve(t *testing.T, d *daemon, file string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "compose")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: d}}
	s.Start()
	t.Cleanup(s.Close)
	t.Setenv("MUELLE_HOST", "unix://"+l.Addr().String())
	t.Setenv("HOME", dir)
	for _, name := range []string{"COMPOSE_FILE", "COMPOSE_PROJECT_NAME", "COMPOSE_PROFILES", "NO_COLOR"} {
		t.Setenv(name, "")
		if err := os.Unsetenv(name); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "compose.yaml"), []byte(file), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
}

func run(t *testing.T, args ...string) (out, errs string, code int) {
	t.Helper()
	var o, e bytes.Buffer
	code = compose.Main(t.Context(), args, compose.Streams{In: strings.NewReader(""), Out: &o, Err: &e})
	return o.String(), e.String(), code
}

const twoServices = `
name: p
services:
  web: {image: web, depends_on: [db], scale: 2}
  db: {image: db}
  debug: {image: debug, profiles: [debug]}
`

func TestUpSendsTheProject(t *testing.T) {
	d := &daemon{lines: []api.ProjectProgress{
		{ID: "Network p_default", Status: "Creating"},
		{ID: "Network p_default", Status: "Created", Finished: true},
		{ID: api.ProgressWarning, Status: "mind", Finished: true},
		{ID: api.ProgressCreated, Finished: true},
		{Done: true},
	}}
	serve(t, d, twoServices)
	out, errs, code := run(t, "up", "-d", "--wait-timeout", "3", "--wait", "--scale", "web=3", "-t", "7", "web")
	if code != 0 || out != "" {
		t.Fatalf("exit %d, %q", code, out)
	}
	if diff := cmp.Diff(" Network p_default Creating\n Network p_default Created\nWARN mind\n", errs); diff != "" {
		t.Error(diff)
	}
	spec, o := d.up.Spec, d.up.Options
	if spec.Name != "p" || len(spec.Services) != 2 || spec.Services[1].Name != "web" || spec.Services[1].Scale != 3 {
		t.Errorf("%+v", spec)
	}
	if diff := cmp.Diff([]string{"debug"}, spec.Disabled); diff != "" {
		t.Error(diff)
	}
	if !o.Wait || o.WaitTimeout.Seconds() != 3 || o.Timeout == nil || *o.Timeout != 7 || cmp.Diff([]string{"web"}, o.Services) != "" {
		t.Errorf("%+v", o)
	}
}

func TestErrors(t *testing.T) {
	tests := []struct {
		name  string
		lines []api.ProjectProgress
		args  []string
		want  string
		code  int
	}{
		{
			"the project's own", []api.ProjectProgress{{ID: api.ProgressFailure, Error: "dependency failed to start: container p-db-1 is unhealthy"}, {Done: true, Error: "dependency failed to start: container p-db-1 is unhealthy", Code: 409}},
			[]string{"up", "-d"}, "dependency failed to start: container p-db-1 is unhealthy", 1,
		},
		{
			"the engine's", []api.ProjectProgress{{Done: true, Error: "port is taken", Code: 500}},
			[]string{"up", "-d"}, "Error response from daemon: port is taken", 1,
		},
		{"unknown command", nil, []string{"frobnicate"}, `unknown command: "compose frobnicate"`, 1},
		{"not there yet", nil, []string{"watch"}, "compose watch is not supported by Muelle yet", 1},
		{"dry run", nil, []string{"--dry-run", "up"}, "--dry-run is not supported by Muelle yet", 1},
		{"incompatible", nil, []string{"up", "--force-recreate", "--no-recreate"}, "--force-recreate and --no-recreate are incompatible", 1},
		{"unknown service", nil, []string{"up", "-d", "nobody"}, "no such service: nobody", 1},
		{"scale", nil, []string{"up", "-d", "--scale", "web"}, `invalid --scale option "web". Should be SERVICE=NUM`, 1},
		{"exec", nil, []string{"exec", "web", "true"}, `service "web" is not running`, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			serve(t, &daemon{lines: tt.lines}, twoServices)
			_, errs, code := run(t, tt.args...)
			if strings.TrimSpace(errs) != tt.want || code != tt.code {
				t.Errorf("exit %d: %s", code, errs)
			}
		})
	}
}

func TestNoDaemon(t *testing.T) {
	serve(t, &daemon{}, twoServices)
	t.Setenv("MUELLE_HOST", "unix:///nowhere/muelle.sock")
	_, errs, code := run(t, "ps")
	if code != 1 || !strings.Contains(errs, "cannot reach muelled at unix:///nowhere/muelle.sock") {
		t.Errorf("exit %d: %s", code, errs)
	}
}

func TestHelp(t *testing.T) {
	t.Setenv("MUELLE_NAME", "muelle")
	serve(t, &daemon{}, twoServices)
	out, _, code := run(t, "start", "--help")
	want := "Usage:  muelle compose start [SERVICE...]\n\nStart services\n"
	if !strings.HasPrefix(out, want) || code != 0 {
		t.Errorf("exit %d: %s", code, out)
	}
	if out, _, _ = run(t); !strings.HasPrefix(out, "Usage:  muelle compose [OPTIONS] COMMAND\n") || !strings.Contains(out, "\n  up ") {
		t.Errorf("without a command: %s", out)
	}
	if out, _, code = run(t, "--version"); code != 0 || !strings.Contains(out, api.ComposeVersion) {
		t.Errorf("exit %d: %s", code, out)
	}
}

// Only what runs is counted, unless all was asked for.
func TestLs(t *testing.T) {
	serve(t, &daemon{projects: []api.ProjectSummary{
		{Name: "a", Status: "exited(1), running(2)", ConfigFiles: []string{"/a.yaml"}},
		{Name: "b", Status: "exited(1)"},
	}}, twoServices)
	for args, want := range map[string]string{
		"ls":    "NAME                STATUS              CONFIG FILES\na                   running(2)          /a.yaml\n",
		"ls -a": "NAME                STATUS                  CONFIG FILES\na                   exited(1), running(2)   /a.yaml\nb                   exited(1)               \n",
	} {
		out, errs, _ := run(t, strings.Fields(args)...)
		if diff := cmp.Diff(want, out); diff != "" {
			t.Error(args, diff, errs)
		}
	}
}

func TestDown(t *testing.T) {
	d := &daemon{lines: []api.ProjectProgress{{Done: true}}}
	serve(t, d, twoServices)
	if _, errs, code := run(t, "down", "-v", "--remove-orphans"); code != 0 {
		t.Fatalf("exit %d: %s", code, errs)
	}
	want := api.ProjectDownOptions{Services: []string{}, Known: []string{"db", "web", "debug"}, Volumes: true, RemoveOrphans: true}
	if diff := cmp.Diff(want, d.down); diff != "" {
		t.Error(diff)
	}
	// Without files nothing is an orphan.
	if _, errs, code := run(t, "-p", "other", "down"); code != 0 {
		t.Fatalf("exit %d: %s", code, errs)
	}
	if d.down.Known != nil || d.requests[len(d.requests)-1] != "POST /muelle/v1/projects/other/down" {
		t.Errorf("%+v, %v", d.down, d.requests)
	}
}

func TestPs(t *testing.T) {
	label := func(service, number string) map[string]string {
		return map[string]string{api.LabelProject: "p", api.LabelService: service, api.LabelContainerNumber: number}
	}
	serve(t, &daemon{list: []container.Summary{
		{ID: strings.Repeat("a", 64), Names: []string{"/p-web-1"}, Image: "web", Command: "run a long command line", State: "running", Status: "Up 2 hours", Labels: label("web", "1"), Ports: []container.PortSummary{{PrivatePort: 80, PublicPort: 8080, Type: "tcp"}}},
		{ID: strings.Repeat("b", 64), Names: []string{"/p-db-1"}, Image: "db", Command: "db", State: "exited", Status: "Exited (3) 1 hour ago", Labels: label("db", "1")},
	}}, twoServices)
	out, errs, code := run(t, "ps", "-a", "--format", "table {{.Name}}\t{{.Service}}\t{{.Command}}\t{{.Status}}\t{{.ExitCode}}")
	want := "NAME      SERVICE   COMMAND                  STATUS                  EXIT CODE\n" +
		"p-db-1    db        \"db\"                     Exited (3) 1 hour ago   3\n" +
		"p-web-1   web       \"run a long command …\"   Up 2 hours              0\n"
	if diff := cmp.Diff(want, out); diff != "" || code != 0 {
		t.Error(diff, errs)
	}
	if out, _, _ = run(t, "ps", "-q"); out != strings.Repeat("a", 64)+"\n" {
		t.Errorf("ps -q: %q", out)
	}
	if out, _, _ = run(t, "ps", "--services", "--status", "exited"); out != "db\n" {
		t.Errorf("ps --services: %q", out)
	}
	if out, _, _ = run(t, "ps", "--format", "json", "web"); !strings.Contains(out, `"Publishers":[{"URL":"","TargetPort":80,"PublishedPort":8080,"Protocol":"tcp"}]`) {
		t.Errorf("ps --format json: %s", out)
	}
}

// A container's own name stays whole; what it printed to stderr is output too.
func TestLogs(t *testing.T) {
	labels := map[string]string{api.LabelProject: "p", api.LabelService: "web", api.LabelContainerNumber: "1"}
	serve(t, &daemon{
		list: []container.Summary{
			{ID: "a", Names: []string{"/p-web-1"}, State: "exited", Labels: labels},
			{ID: "b", Names: []string{"/p-mine"}, State: "exited", Labels: map[string]string{api.LabelProject: "p", api.LabelService: "db", api.LabelContainerNumber: "1"}},
		},
		log: map[string][]byte{"a": []byte("\x01\x00\x00\x00\x00\x00\x00\x04out\n"), "b": []byte("\x02\x00\x00\x00\x00\x00\x00\x04err\n")},
	}, twoServices)
	out, errs, code := run(t, "logs")
	if diff := cmp.Diff("p-mine  | err\nweb-1   | out\n", out); diff != "" || code != 0 {
		t.Errorf("exit %d: %s%s", code, diff, errs)
	}
}

func TestConfig(t *testing.T) {
	serve(t, &daemon{}, twoServices)
	tests := []struct {
		args []string
		want string
	}{
		{[]string{"config", "--services"}, "db\nweb\n"},
		{[]string{"config", "--images"}, "db\nweb\n"},
		{[]string{"config", "--networks"}, "default\n"},
		{[]string{"config", "--profiles"}, "debug\n"},
		{[]string{"config", "-q"}, ""},
		{[]string{"--profile", "debug", "config", "--services"}, "db\ndebug\nweb\n"},
		{[]string{"version", "--short"}, api.ComposeVersion + "\n"},
	}
	for _, tt := range tests {
		out, errs, code := run(t, tt.args...)
		if strings.Join(sortLines(out), "") != strings.Join(sortLines(tt.want), "") || code != 0 {
			t.Errorf("%v: %q %s", tt.args, out, errs)
		}
	}
	if out, _, _ := run(t, "config"); !strings.Contains(out, "name: p\n") || !strings.Contains(out, "scale: 2") {
		t.Errorf("config: %s", out)
	}
}

func sortLines(s string) []string {
	l := strings.SplitAfter(s, "\n")
	slices.Sort(l)
	return l
}
