package compose

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/containerd/errdefs"

	"muelle/api"
	"muelle/client"
	"muelle/internal/compose/display"
)

// session is an up in the foreground: the daemon's up beside the logs of what it
// starts, until every container has ended or the user stops them.
type session struct {
	*app
	cli     *client.Client
	project *types.Project
	o       *upFlags
	logs    *display.Logs
	follow  *follower

	mu       sync.Mutex
	started  []string // containers that this up started
	stopping bool
	cancelUp context.CancelFunc
	exitCode int
	work     sync.WaitGroup
	errs     []error
}

// upAttached brings the project up and stays with it.
func (a *app) upAttached(ctx context.Context, p *types.Project, req api.ProjectUpRequest, o *upFlags, services []string) error {
	c, err := a.client(ctx)
	if err != nil {
		return err
	}
	s := &session{app: a, cli: c, project: p, o: o}
	s.logs = display.NewLogs(a.Out, a.Err, !o.noColor && a.color(a.Out), !o.noPrefix)
	attach, err := s.attachTo(services)
	if err != nil {
		return err
	}
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)

	// What is watched ends with the session, not with the signal that stops it.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// Of what runs already only new lines are shown.
	logs := client.LogOptions{Stdout: true, Stderr: true, Timestamps: o.timestamps, Since: unixTime(time.Now())}
	s.follow, err = newFollower(ctx, c, p.Name, s.logs, logs, attach, s.exited)
	if err != nil {
		return err
	}
	var upCtx context.Context
	upCtx, s.cancelUp = context.WithCancel(ctx)
	defer s.cancelUp()
	done := make(chan error, 1)
	go func() { done <- s.runUp(upCtx, req) }()

	interrupted := 0
	for {
		select {
		case <-signals:
			interrupted++
			if interrupted == 1 {
				s.note("Gracefully Stopping... press Ctrl+C again to force")
				s.stopAll(ctx)
			} else {
				s.killAll(ctx)
			}
		case err := <-done:
			done = nil
			switch {
			case err != nil && s.beginStopping():
				// Nobody stops it: what was started stays, as with -d.
				cancel()
				s.follow.close()
				return err
			case err == nil:
				s.follow.settle(s.startedNames())
			}
		case <-s.follow.idle:
			s.work.Wait()
			cancel()
			s.follow.close()
			return s.result(interrupted > 0)
		}
	}
}

func (s *session) result(interrupted bool) error {
	if interrupted {
		return &exitError{code: 130}
	}
	err := errors.Join(s.errs...)
	if s.exitCode != 0 {
		text := ""
		if err != nil {
			text = err.Error()
		}
		return &exitError{code: s.exitCode, text: text}
	}
	return err
}

// runUp shows the creation, then leaves the terminal to the logs.
func (s *session) runUp(ctx context.Context, req api.ProjectUpRequest) error {
	show := s.progress("up")
	defer show.Close()
	line := report(show)
	own := ""
	err := s.cli.Projects.Up(ctx, s.project.Name, req, func(p api.ProjectProgress) {
		if p.ID == api.ProgressFailure {
			own = p.Error
		}
		name, isContainer := strings.CutPrefix(p.ID, "Container ")
		switch {
		case p.ID == api.ProgressCreated:
			show.Close()
			s.follow.begin(ctx, true)
			return
		case isContainer && p.Status == "Starting", isContainer && p.Status == "Started":
			// Not shown: they would mix with the logs. The error of a start comes back whole.
			if p.Status == "Started" && slices.Contains(s.follow.services, s.serviceOf(name)) {
				s.mu.Lock()
				s.started = append(s.started, name)
				s.mu.Unlock()
			}
			return
		case p.ID == api.ProgressWarning:
			s.warn(p.Status)
			return
		}
		line(p)
	})
	return plainly(err, own)
}

// serviceOf is the service of a container by its name.
func (s *session) serviceOf(name string) string {
	for _, svc := range s.project.Services {
		if svc.ContainerName == name {
			return svc.Name
		}
		number, ok := strings.CutPrefix(name, s.project.Name+"-"+svc.Name+"-")
		if _, err := strconv.Atoi(number); ok && err == nil && svc.ContainerName == "" {
			return svc.Name
		}
	}
	return ""
}

func (s *session) startedNames() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.started)
}

// attachTo are the services whose logs are shown.
func (s *session) attachTo(services []string) ([]string, error) {
	if len(s.o.attach) > 0 {
		for _, name := range s.o.attach {
			if _, ok := s.project.Services[name]; !ok {
				return nil, errors.New("cannot attach to services not included in up: " + name)
			}
		}
		return s.o.attach, nil
	}
	var dependencies types.DependencyOption = types.IgnoreDependencies
	if s.o.attachDependencies {
		dependencies = types.IncludeDependencies
	}
	if len(services) == 0 {
		services = s.project.ServiceNames()
	}
	var attach []string
	err := s.project.ForEachService(services, func(name string, svc *types.ServiceConfig) error {
		if (svc.Attach == nil || *svc.Attach) && !slices.Contains(s.o.noAttach, name) {
			attach = append(attach, name)
		}
		return nil
	}, dependencies)
	return attach, err
}

// exited is told of each container that ended and is not restarted.
func (s *session) exited(ctx context.Context, service string, code int) {
	s.mu.Lock()
	abort := !s.stopping && (s.o.abortOnExit || s.o.abortOnFailure && code != 0)
	if abort && s.o.exitCodeFrom == "" || service == s.o.exitCodeFrom && s.o.exitCodeFrom != "" && s.exitCode == 0 {
		s.exitCode = code
	}
	s.mu.Unlock()
	if abort {
		s.note("Aborting on container exit...")
		s.stopAll(ctx)
	}
}

func (s *session) note(text string) {
	if s.color(s.Err) {
		text = "\x1b[31;1m" + text + "\x1b[0m"
	}
	_, _ = s.Err.Write([]byte(text + "\n"))
}

// stopAll asks the daemon to stop the project, once, beside the logs.
func (s *session) stopAll(ctx context.Context) {
	if !s.beginStopping() {
		return
	}
	s.cancelUp()
	s.follow.begin(ctx, false)
	s.work.Go(func() {
		show := s.progress("stop")
		s.logs.Share(show.Beside)
		err := s.cli.Projects.Stop(ctx, s.project.Name, api.ProjectActionOptions{Services: s.existing(ctx), Timeout: s.stopTimeout()}, report(show))
		show.Close()
		if err != nil && !errdefs.IsNotFound(err) {
			s.fail(err)
		}
		s.follow.settle(nil)
	})
}

// beginStopping is true for the first who asks: the end has one cause only.
func (s *session) beginStopping() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := !s.stopping
	s.stopping = true
	return first
}

func (s *session) stopTimeout() *int {
	if s.o.timeout == 0 {
		return nil
	}
	return &s.o.timeout
}

// existing are the session's services that have containers.
func (s *session) existing(ctx context.Context) []string {
	list, err := s.cli.Containers.List(ctx, client.ListOptions{All: true, Filters: projectFilter(s.project.Name)})
	if err != nil {
		s.fail(err)
		return nil
	}
	var names []string
	for _, c := range list {
		name := c.Labels[api.LabelService]
		if _, ours := s.project.Services[name]; ours && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

func (s *session) killAll(ctx context.Context) {
	s.work.Go(func() {
		list, err := s.cli.Containers.List(ctx, client.ListOptions{Filters: projectFilter(s.project.Name)})
		if err != nil {
			s.fail(err)
		}
		for _, c := range list {
			if _, ours := s.project.Services[c.Labels[api.LabelService]]; !ours {
				continue
			}
			if err := s.cli.Containers.Kill(ctx, c.ID, "SIGKILL"); err != nil && !errdefs.IsNotFound(err) && !errdefs.IsConflict(err) {
				s.fail(err)
			}
		}
	})
}

func (s *session) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.errs = append(s.errs, err)
}
