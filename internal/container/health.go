package container

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	ctypes "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"muelle/internal/id"
	"muelle/internal/oci"
	"muelle/internal/probe"
	"muelle/internal/runtime"
)

// Docker's defaults and bounds of health checks.
const (
	defaultHealthInterval      = 30 * time.Second
	defaultHealthTimeout       = 30 * time.Second
	defaultHealthStartInterval = 5 * time.Second
	defaultHealthRetries       = 3
	healthLogs                 = 5
	healthOutput               = 4096
)

// healthCheck is a container's health check with its defaults filled in: a command,
// or a probe by the engine.
type healthCheck struct {
	cmd                                           []string
	probe                                         *probe.Config
	interval, timeout, startPeriod, startInterval time.Duration
	retries                                       int
	onFailure                                     probe.OnFailure
}

// checkOf gives the health check of a configuration; nil: there is none.
func checkOf(cfg *ctypes.Config) *healthCheck {
	h := cfg.Healthcheck
	if h == nil {
		return nil
	}
	// Checked at creation; a record of a later version may know more.
	settings, err := probe.FromLabels(cfg.Labels)
	if err != nil {
		return nil
	}
	p := &healthCheck{
		interval: h.Interval, timeout: h.Timeout, startPeriod: h.StartPeriod,
		startInterval: h.StartInterval, retries: h.Retries, onFailure: settings.OnFailure,
	}
	switch {
	case len(h.Test) == 0 && settings.Probe != nil:
		p.probe = settings.Probe
	case len(h.Test) < 2:
		return nil
	case h.Test[0] == "CMD":
		p.cmd = h.Test[1:]
	case h.Test[0] == "CMD-SHELL":
		shell := cfg.Shell
		if len(shell) == 0 {
			shell = []string{"/bin/sh", "-c"}
		}
		p.cmd = append(append([]string{}, shell...), strings.Join(h.Test[1:], " "))
	default:
		return nil
	}
	setDefault(&p.interval, defaultHealthInterval)
	setDefault(&p.timeout, defaultHealthTimeout)
	setDefault(&p.startInterval, defaultHealthStartInterval)
	setDefault(&p.retries, defaultHealthRetries)
	return p
}

func setDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// wait is the time to the next check of a run that began at started.
func (p *healthCheck) wait(status ctypes.HealthStatus, started time.Time, now time.Time) time.Duration {
	if p.startPeriod > 0 && status == ctypes.Starting && now.Sub(started) < p.startPeriod {
		return p.startInterval
	}
	return p.interval
}

// next gives the health after a result. A failure does not count in the start
// period, as long as no check has succeeded.
func (p *healthCheck) next(h ctypes.Health, r *ctypes.HealthcheckResult, started time.Time) *ctypes.Health {
	log := append(append([]*ctypes.HealthcheckResult{}, h.Log...), r)
	if len(log) > healthLogs {
		log = log[len(log)-healthLogs:]
	}
	h.Log = log
	switch {
	case r.ExitCode == 0:
		h.FailingStreak, h.Status = 0, ctypes.Healthy
	case h.Status == ctypes.Starting && r.Start.Sub(started) < p.startPeriod:
	default:
		h.FailingStreak++
		if h.FailingStreak >= p.retries {
			h.Status = ctypes.Unhealthy
		}
	}
	return &h
}

// freshHealth is that of a new run: as Docker's, what was tried before stays to be
// read. Nil where there is no check.
func freshHealth(p *healthCheck, before *ctypes.Health) *ctypes.Health {
	if p == nil {
		return nil
	}
	h := &ctypes.Health{Status: ctypes.Starting, Log: []*ctypes.HealthcheckResult{}}
	if before != nil {
		h.Log = append(h.Log, before.Log...)
	}
	return h
}

// startHealth begins the health checks of the run that is on. mu is held.
func (s *Service) startHealth(c *entry) {
	p := checkOf(c.rec.Config)
	if p == nil || c.task == nil {
		return
	}
	if c.st.Health == nil {
		// Docker's shape: a list, also where nothing was tried yet.
		c.st.Health = &ctypes.Health{Status: ctypes.Starting, Log: []*ctypes.HealthcheckResult{}}
	}
	ctx, cancel := context.WithCancel(s.ctx)
	c.stopHealth = cancel
	task := c.task
	s.background(func() {
		defer cancel()
		run := func(ctx context.Context) *ctypes.HealthcheckResult { return s.execHealth(ctx, c, task, p) }
		if p.probe != nil {
			place := &probePlace{s: s, c: c, task: task}
			defer place.close()
			run = func(ctx context.Context) *ctypes.HealthcheckResult { return place.probe(ctx, p) }
		}
		s.checkHealth(ctx, c, task, p, run)
	})
}

func (s *Service) checkHealth(ctx context.Context, c *entry, task runtime.Task, p *healthCheck, run func(context.Context) *ctypes.HealthcheckResult) {
	timer := time.NewTimer(0)
	<-timer.C
	defer timer.Stop()
	// Not whether it turned unhealthy just now: a daemon that ended while it acted
	// leaves the rest to the next one.
	acted := false
	for {
		c.mu.Lock()
		wait := p.interval
		if c.st.Health != nil {
			wait = p.wait(c.st.Health.Status, c.st.StartedAt, time.Now())
		}
		c.mu.Unlock()
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		r := run(ctx)
		if ctx.Err() != nil {
			return
		}
		s.timers.Checks.Add(1)
		if r.ExitCode != 0 {
			s.timers.FailedChecks.Add(1)
		}
		unhealthy := s.recordHealth(c, task, p, r) == ctypes.Unhealthy
		if unhealthy && !acted && p.onFailure != probe.Nothing {
			s.background(func() { s.onUnhealthy(c, task, p.onFailure) })
		}
		acted = unhealthy
	}
}

// recordHealth takes in a result and gives the health after it; none if the run is
// another one by now.
func (s *Service) recordHealth(c *entry, task runtime.Task, p *healthCheck, r *ctypes.HealthcheckResult) ctypes.HealthStatus {
	c.mu.Lock()
	if c.task != task || c.st.Health == nil || c.st.Status != ctypes.StateRunning {
		c.mu.Unlock()
		return ""
	}
	before, streak := c.st.Health.Status, c.st.Health.FailingStreak
	c.st.Health = p.next(*c.st.Health, r, c.st.StartedAt)
	if streak == 0 {
		c.st.FailingSince = r.Start
	}
	status := c.st.Health.Status
	if status != before {
		s.save(c)
	}
	c.notify()
	c.mu.Unlock()
	if status != before {
		s.tellReady(c)
		s.event(c, events.Action("health_status: "+string(status)), nil)
	}
	return status
}

// execHealth runs a check's command once.
func (s *Service) execHealth(ctx context.Context, c *entry, task runtime.Task, p *healthCheck) *ctypes.HealthcheckResult {
	r := &ctypes.HealthcheckResult{Start: time.Now()}
	fail := func(format string, args ...any) *ctypes.HealthcheckResult {
		r.End, r.ExitCode, r.Output = time.Now(), -1, fmt.Sprintf(format, args...)
		return r
	}
	spec, err := s.execSpec(ctx, c, task, "", oci.ExecOptions{Args: p.cmd})
	if err != nil {
		return fail("%s", err)
	}
	xid := id.New()
	out := &limited{max: healthOutput}
	delivered := make(chan struct{})
	var once sync.Once
	streams := &runtime.Streams{Stdout: out, Stderr: out, Done: func(error) { once.Do(func() { close(delivered) }) }}
	s.execEvent(c, events.ActionExecCreate, xid, p.cmd)
	s.execEvent(c, events.ActionExecStart, xid, p.cmd)
	proc, err := task.Exec(ctx, spec, runtime.ExecOptions{ID: xid, Streams: streams})
	if err != nil {
		var se *runtime.StartError
		if errors.As(err, &se) {
			return fail("OCI runtime exec failed: exec failed: unable to start container process: %s: unknown", se)
		}
		return fail("%s", err)
	}
	bounded, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	exit, err := proc.Wait(bounded)
	if err != nil {
		if kerr := proc.Signal(context.WithoutCancel(ctx), syscall.SIGKILL); kerr == nil && ctx.Err() == nil {
			_, _ = proc.Wait(ctx)
		}
		if got := out.String(); got != "" {
			return fail("Health check exceeded timeout (%v): %s", p.timeout, got)
		}
		return fail("Health check exceeded timeout (%v)", p.timeout)
	}
	// A child that lives on may hold the output open: what came so far counts.
	select {
	case <-delivered:
	case <-bounded.Done():
	}
	s.event(c, events.ActionExecDie, map[string]string{"execID": xid, "exitCode": strconv.Itoa(exit.Code)})
	r.End, r.ExitCode, r.Output = time.Now(), exit.Code, out.String()
	return r
}

// limited keeps the beginning of what is written to it.
type limited struct {
	mu   sync.Mutex
	max  int
	data []byte
	more bool
}

func (l *limited) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	room := l.max - len(l.data)
	l.more = l.more || len(p) > room
	l.data = append(l.data, p[:min(len(p), room)]...)
	return len(p), nil
}

func (l *limited) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.more {
		return string(l.data) + "..."
	}
	return string(l.data)
}
