package container

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	ctypes "github.com/moby/moby/api/types/container"

	"muelle/api"
	"muelle/internal/metric"
	"muelle/internal/runtime"
)

// Timers are how long operations took, failed ones left out, and how many health
// checks there were.
type Timers struct {
	Create, Start, Delete, Commit, Changes metric.Timer
	// Allocate, Release and Connect are of networks: a container's at its start, at its
	// end, and one more while it runs.
	Allocate, Release, Connect metric.Timer
	Checks, FailedChecks       atomic.Uint64
}

// Timers gives the service's timers.
func (s *Service) Timers() *Timers { return &s.timers }

// logged sums what the logs of runs that ended counted, since the daemon began. told is
// the most that was told of: counters do not go back.
type logged struct {
	mu        sync.Mutex
	sum, told runtime.Logged
}

func (l *logged) count(o runtime.Logged) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sum.Add(o)
}

// Logged counts what of the containers' output was not kept as it came: of those that
// run, and of those that ended while this daemon was there or in its absence.
func (s *Service) Logged(ctx context.Context) runtime.Logged {
	var now []runtime.Task
	for _, c := range s.all() {
		c.mu.Lock()
		if c.task != nil && c.st.alive() {
			now = append(now, c.task)
		}
		c.mu.Unlock()
	}
	s.logged.mu.Lock()
	sum := s.logged.sum
	s.logged.mu.Unlock()
	for _, task := range now {
		if l, err := task.Logged(ctx); err == nil { // else it ends, and its end tells it
			sum.Add(l)
		}
	}
	return s.logged.tell(sum)
}

// tell gives the sum, or of what it lacks, because a run ends right now, what was told
// of before.
func (l *logged) tell(sum runtime.Logged) runtime.Logged {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.told = runtime.Logged{
		Partial:   max(l.told.Partial, sum.Partial),
		Unread:    max(l.told.Unread, sum.Unread),
		Unwritten: max(l.told.Unwritten, sum.Unwritten),
	}
	return l.told
}

// Measurement is what a container has used so far.
type Measurement struct {
	ID, Name, Image  string
	Project, Service string
	State            ctypes.ContainerState
	RestartCount     int
	ExitCode         int
	OOMKilled        bool
	StartedAt        time.Time
	// Health is empty for a container without checks.
	Health        ctypes.HealthStatus
	FailingStreak int
	// Stats is nil for a container that does not run; Networks too where it has the
	// host's.
	Stats    *ctypes.StatsResponse
	OOMKills uint64
}

// Measure reads every container's resources. One that ends meanwhile is given
// without them.
func (s *Service) Measure(ctx context.Context) []Measurement {
	var out []Measurement
	for _, c := range s.all() {
		if ctx.Err() != nil {
			break
		}
		c.mu.Lock()
		m := Measurement{
			ID: c.id, Name: c.rec.Name, Image: c.rec.Config.Image,
			Project: c.rec.Config.Labels[api.LabelProject], Service: c.rec.Config.Labels[api.LabelService],
			State: c.st.Status, RestartCount: c.st.RestartCount, ExitCode: c.st.ExitCode, OOMKilled: c.st.OOMKilled, StartedAt: c.st.StartedAt,
		}
		if h := c.st.Health; h != nil && h.Status != ctypes.NoHealthcheck {
			m.Health, m.FailingStreak = h.Status, h.FailingStreak
		}
		alive, removed := c.st.alive(), c.removed
		c.mu.Unlock()
		if removed {
			continue
		}
		if alive {
			if r, kills, err := s.reading(ctx, c); err == nil && !r.Read.IsZero() {
				m.Stats, m.OOMKills = r, kills
			}
		}
		out = append(out, m)
	}
	return out
}
