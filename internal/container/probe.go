package container

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/containerd/errdefs"
	ctypes "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"muelle/internal/probe"
	"muelle/internal/probe/check"
	"muelle/internal/runtime"
)

// probePlace is where the probes of one run are made. The namespace's descriptor is
// asked for once; it is given back when the checks end.
type probePlace struct {
	s     *Service
	c     *entry
	task  runtime.Task
	netns *os.File
	ready bool
}

func (p *probePlace) close() {
	if p.netns != nil {
		p.netns.Close()
	}
}

// probeThread is the one that goes into containers' networks, made on first use. It
// ends with the service.
func (s *Service) probeThread() *check.Thread {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.probes == nil {
		s.probes = check.NewThread()
		context.AfterFunc(s.ctx, s.probes.Close)
	}
	return s.probes
}

// place gives the namespace and the addresses to ask.
func (p *probePlace) place(ctx context.Context) (check.Place, error) {
	rec, st := p.c.snapshot()
	if !p.ready && !rec.HostConfig.NetworkMode.IsHost() {
		f, err := p.task.NetNS(ctx)
		if err != nil {
			return check.Place{}, fmt.Errorf("enter the container's network: %w", err)
		}
		p.netns = f
	}
	p.ready = true
	var addrs []netip.Addr
	for _, e := range st.Endpoints {
		if e != nil && e.IPAddress.IsValid() {
			addrs = append(addrs, e.IPAddress)
		}
	}
	return check.Place{NetNS: p.netns, Thread: p.s.probeThread(), Addrs: addrs}, nil
}

// probe makes one probe; what it says has the form of a command's result.
func (p *probePlace) probe(ctx context.Context, h *healthCheck) *ctypes.HealthcheckResult {
	r := &ctypes.HealthcheckResult{Start: time.Now()}
	bounded, cancel := context.WithTimeout(ctx, h.timeout)
	defer cancel()
	at, err := p.place(bounded)
	var text string
	if err == nil {
		text, err = check.Run(bounded, h.probe, at)
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		r.ExitCode, text = -1, fmt.Sprintf("Health check exceeded timeout (%v): %s", h.timeout, err)
	case err != nil:
		r.ExitCode, text = 1, err.Error()
	}
	out := &limited{max: healthOutput}
	_, _ = out.Write([]byte(text)) // into memory
	r.End, r.Output = time.Now(), out.String()
	return r
}

// onUnhealthy does what a container asks for once it became unhealthy, to the run
// that did.
func (s *Service) onUnhealthy(c *entry, task runtime.Task, what probe.OnFailure) {
	s.event(c, events.Action("health_on_failure: "+string(what)), nil)
	var err error
	switch what {
	case probe.Kill:
		err = s.killRun(s.ctx, c, task)
	case probe.Stop:
		err = s.stopRun(s.ctx, c, task, byHealth)
	case probe.Restart:
		err = s.restartRun(s.ctx, c, task)
	}
	if err != nil && s.ctx.Err() == nil && !errdefs.IsNotModified(err) && !errdefs.IsNotFound(err) && !errdefs.IsConflict(err) {
		s.log.Error("act on an unhealthy container", "container", c.id, "action", string(what), "err", err)
	}
}

// acquireRun takes the operation lock, if the run is still on.
func (s *Service) acquireRun(ctx context.Context, c *entry, task runtime.Task) error {
	if err := s.acquire(ctx, c); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.task != task || !c.st.alive() {
		c.op.release()
		return conflict("container %s is not running", c.id)
	}
	return nil
}
