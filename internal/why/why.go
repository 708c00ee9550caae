// Package why explains what happened to a container: it puts together the state, what
// was recorded when runs ended, the kernel's log, the last lines of the log, health
// checks, the image and the files in the container's root, and says in sentences what
// happened, on what evidence, and what to do.
package why

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	ctypes "github.com/moby/moby/api/types/container"

	"muelle/api"
	"muelle/internal/container"
	"muelle/internal/filter"
	"muelle/internal/logdriver"
)

// logLines are looked at, from the end.
const logLines = 40

// Service explains.
type Service struct {
	containers *container.Service
	queries    func(containerID string) []api.DNSQuery
}

// New makes the service. queries gives the last lookups of a container.
func New(containers *container.Service, queries func(containerID string) []api.DNSQuery) *Service {
	return &Service{containers: containers, queries: queries}
}

// Explain says what happened to a container: a name, an id, or PROJECT/SERVICE.
func (s *Service) Explain(ctx context.Context, ref string) (*api.WhyReport, error) {
	e, err := s.containers.Evidence(ctx, ref)
	if project, service, ok := strings.Cut(ref, "/"); errdefs.IsNotFound(err) && ok && project != "" {
		e, err = s.ofService(ctx, project, service)
	}
	if err != nil {
		return nil, err
	}
	f := &facts{ctx: ctx, s: s, e: e, peers: s.peersOf, queries: s.queries}
	defer f.close()
	f.logs = s.lastLines(ctx, e)
	if n := len(e.Endings); n > 0 {
		f.last = &e.Endings[n-1]
	}
	report := &api.WhyReport{ID: e.ID, Name: e.Name, Status: string(e.State.Status), ExitCode: e.State.ExitCode, At: e.FinishedAt}
	if e.State.Running && !e.State.Restarting || e.FinishedAt.IsZero() {
		report.At = e.StartedAt
	}
	for _, rule := range rules {
		report.Findings = append(report.Findings, rule(f)...)
	}
	if len(report.Findings) == 0 {
		report.Findings = []api.WhyFinding{f.nothing()}
	}
	return report, nil
}

// ofService finds the container of a project's service that is worst off.
func (s *Service) ofService(ctx context.Context, project, service string) (*container.Evidence, error) {
	labels := filter.Args{"label": {api.LabelProject + "=" + project, api.LabelService + "=" + service}}
	list, err := s.containers.List(ctx, container.ListOptions{All: true, Filters: labels})
	if err != nil {
		return nil, err
	}
	var worst *container.Evidence
	badness := func(e *container.Evidence) int {
		switch {
		case e.State.Restarting:
			return 4
		case !e.State.Running && e.State.ExitCode != 0:
			return 3
		case e.State.Health != nil && e.State.Health.Status == ctypes.Unhealthy:
			return 2
		case !e.State.Running:
			return 1
		}
		return 0
	}
	for _, c := range list {
		e, err := s.containers.Evidence(ctx, c.ID)
		if err == nil && (worst == nil || badness(e) > badness(worst)) {
			worst = e
		}
	}
	if worst == nil {
		return nil, errdefs.ErrNotFound.WithMessage("No such container: " + project + "/" + service)
	}
	return worst, nil
}

// lastLines gives the end of the log; what cannot be read is not there.
func (s *Service) lastLines(ctx context.Context, e *container.Evidence) []string {
	if !e.Started {
		return nil
	}
	seq, _, err := s.containers.Logs(ctx, e.ID, container.LogOptions{ReadOptions: logdriver.ReadOptions{Tail: logLines, Stdout: true, Stderr: true}})
	if err != nil {
		return nil
	}
	var out []string
	for entry, err := range seq {
		if err != nil {
			break
		}
		line := strings.TrimRight(string(entry.Line), "\r\n")
		out = append(out, strings.ToValidUTF8(line[:min(len(line), 500)], "?"))
	}
	return out
}

// facts are what the rules look at.
type facts struct {
	ctx  context.Context
	s    *Service
	e    *container.Evidence
	last *container.Ending // nil: no run has ended, and no start failed
	logs []string
	// peers lists the other containers; nil: they are not known.
	peers func(ctx context.Context, id string) []peer
	// queries gives the last lookups of a container; nil: they are not known.
	queries func(id string) []api.DNSQuery

	root   *os.File
	looked bool
	told   map[string]bool // causes that were found
}

func (f *facts) close() {
	if f.root != nil {
		f.root.Close()
	}
}

// rootDir opens the container's root on first use; nil: it cannot be looked at.
func (f *facts) rootDir() *os.File {
	if !f.looked {
		f.looked = true
		if root, err := f.e.Root(); err == nil {
			f.root = root
		}
	}
	return f.root
}

// ended says that the container does not run because a run ended, or did not begin.
func (f *facts) ended() bool {
	st := f.e.State
	return f.last != nil && (!st.Running || st.Restarting)
}

// failedStart gives why the last start failed; empty: it did not.
func (f *facts) failedStart() string {
	if !f.ended() {
		return ""
	}
	return f.last.Error
}

func (f *facts) found(cause string) bool { return f.told[cause] }

// finding builds one and remembers its cause.
func (f *facts) finding(cause, format string, args ...any) *builder {
	if f.told == nil {
		f.told = map[string]bool{}
	}
	f.told[cause] = true
	return &builder{api.WhyFinding{Cause: cause, What: fmt.Sprintf(format, args...)}}
}

// builder puts a finding together.
type builder struct{ f api.WhyFinding }

func (b *builder) because(source, format string, args ...any) *builder {
	b.f.Evidence = append(b.f.Evidence, api.WhyEvidence{Source: source, Text: fmt.Sprintf(format, args...)})
	return b
}

func (b *builder) do(format string, args ...any) *builder {
	b.f.Do = append(b.f.Do, fmt.Sprintf(format, args...))
	return b
}

func (b *builder) probably() *builder { b.f.Probably = true; return b }

func (b *builder) one() []api.WhyFinding { return []api.WhyFinding{b.f} }

// rules in the order of importance. Each says what it knows, or nothing.
var rules = []func(*facts) []api.WhyFinding{
	(*facts).neverStarted,
	(*facts).startFailed,
	(*facts).outOfMemory,
	(*facts).killed,
	(*facts).commandNotRun,
	(*facts).missingVariable,
	(*facts).fromLog,
	(*facts).pidsExhausted,
	(*facts).diskFull,
	(*facts).unhealthy,
	(*facts).exited,
	(*facts).crashLoop,
	(*facts).waiting,
}

// nothing is said where no rule says anything.
func (f *facts) nothing() api.WhyFinding {
	st := f.e.State
	switch {
	case st.Paused:
		return f.finding("paused", "It is paused: its processes are frozen.").because("state", "paused").do("muelle unpause %s", f.e.Name).f
	case st.Running:
		b := f.finding("running", "It runs since %s, and nothing is known to be wrong with it.", stamp(f.e.StartedAt))
		if st.Health != nil {
			b.because("health check", "%s", st.Health.Status)
		}
		return b.f
	}
	return f.finding("unknown", "It is %s, and why is not known: its end was not recorded (a reboot, or an earlier version).", st.Status).
		because("state", "%s, exit code %d", st.Status, st.ExitCode).f
}

func stamp(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05") }
