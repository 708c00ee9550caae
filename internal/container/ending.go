package container

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"muelle/internal/linux/cgroup"
	"muelle/internal/linux/kmsg"
	"muelle/internal/runtime"
)

// Asker says who in the engine sent a signal.
type Asker string

// Who sends signals.
const (
	byStop     Asker = "stop"
	byTimeout  Asker = "stop timeout"
	byKill     Asker = "kill"
	byRemoval  Asker = "removal"
	byShutdown Asker = "shutdown"
	byHealth   Asker = "health"
)

// The exported names are for those who explain how a run ended.
const (
	AskedByStop     = byStop
	AskedByTimeout  = byTimeout
	AskedByKill     = byKill
	AskedByRemoval  = byRemoval
	AskedByShutdown = byShutdown
	AskedByHealth   = byHealth
)

// Asked is a signal that the engine sent to a container's first process.
type Asked struct {
	Signal syscall.Signal
	By     Asker
	At     time.Time
}

// Ending is how one run ended, or why one could not begin. It holds what nobody can
// find out later.
type Ending struct {
	StartedAt time.Time // zero: it could not be started
	At        time.Time
	Code      int
	Signal    syscall.Signal `json:",omitempty"` // that ended the process
	OOMKilled bool           `json:",omitempty"`
	Error     string         `json:",omitempty"` // why it could not be started
	Pid       int            `json:",omitempty"`
	Asked     []Asked        `json:",omitempty"`
	// Counters of the control group: oom_kill, memory_max (the limit was hit),
	// pids_max (a fork was refused).
	Counters map[string]uint64 `json:",omitempty"`
	// Kernel are the lines of the kernel's log that concern the run.
	Kernel []string `json:",omitempty"`
}

const (
	maxEndings = 5
	maxAsked   = 8
)

// note remembers a signal until the end of the run.
func (c *entry) note(sig syscall.Signal, by Asker) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.asked) == maxAsked {
		c.asked = c.asked[1:]
	}
	c.asked = append(c.asked, Asked{Signal: sig, By: by, At: time.Now().UTC()})
}

// addEnding keeps the last few. What snapshot gave away is not changed. mu is held.
func (c *entry) addEnding(e Ending) {
	list := append(slices.Clone(c.st.Endings), e)
	c.st.Endings = list[max(0, len(list)-maxEndings):]
}

// ending puts together how the run that is on ended. A container that goes with its
// end is not asked about: nothing is read for it.
func (s *Service) ending(c *entry, exit runtime.Exit) Ending {
	c.mu.Lock()
	e := Ending{
		StartedAt: c.st.StartedAt, At: exit.At.UTC(), Code: exit.Code, Signal: exit.Signal, OOMKilled: exit.OOMKilled,
		Pid: cmp.Or(exit.Pid, c.st.Pid), Asked: c.asked,
	}
	c.mu.Unlock()
	if c.volatile || exit.Code == 0 {
		return e
	}
	e.Counters = s.counters(c)
	if e.telling() {
		// Not readable here: one source less.
		e.Kernel, _ = kmsg.About(c.id, e.Pid, e.StartedAt)
	}
	return e
}

// telling says whether the kernel may have logged something about the end.
func (e *Ending) telling() bool {
	sig := e.Signal
	if sig == 0 && e.Code > 128 {
		sig = syscall.Signal(e.Code - 128) // of a child, as a shell reports it
	}
	switch sig {
	case syscall.SIGSEGV, syscall.SIGBUS, syscall.SIGILL, syscall.SIGFPE, syscall.SIGTRAP, syscall.SIGSYS:
		return true
	case syscall.SIGKILL:
		return !slices.ContainsFunc(e.Asked, func(a Asked) bool { return a.Signal == syscall.SIGKILL })
	}
	return e.OOMKilled || e.Counters["oom_kill"] > 0
}

// counters reads what the control group counted; what cannot be read is left out.
func (s *Service) counters(c *entry) map[string]uint64 {
	g, err := cgroup.Open(s.group(c))
	if err != nil {
		return nil
	}
	out := map[string]uint64{}
	take := func(controller, file, key, as string) {
		dir := g.Dir(controller)
		if n := counter(filepath.Join(dir, file), key); dir != "" && n > 0 {
			out[as] = n
		}
	}
	take("pids", "pids.events", "max", "pids_max")
	if cgroup.Version() == 2 {
		take("memory", "memory.events", "oom_kill", "oom_kill")
		take("memory", "memory.events", "max", "memory_max")
	} else {
		take("memory", "memory.oom_control", "oom_kill", "oom_kill")
		take("memory", "memory.failcnt", "", "memory_max")
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// counter reads a number from a file of "key value" lines, or of one number where
// key is empty; 0 where there is none.
func counter(file, key string) uint64 {
	data, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if key == "" && len(f) == 1 || len(f) == 2 && f[0] == key {
			n, err := strconv.ParseUint(f[len(f)-1], 10, 64)
			if err == nil {
				return n
			}
		}
	}
	return 0
}
