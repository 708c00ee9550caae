package container

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/docker/go-units"
	ctypes "github.com/moby/moby/api/types/container"
	mnet "github.com/moby/moby/api/types/network"
)

type (
	mport    = mnet.Port
	mbinding = mnet.PortBinding
)

// apiState shows the state as inspect does. mu is held.
func (c *entry) apiState() *ctypes.State {
	st := &c.st
	s := &ctypes.State{
		Status: st.Status, Running: st.running(), Paused: st.Status == ctypes.StatePaused,
		Restarting: st.Status == ctypes.StateRestarting, OOMKilled: st.OOMKilled, Dead: st.Status == ctypes.StateDead,
		ExitCode: st.ExitCode, Error: st.Error,
		StartedAt: st.StartedAt.Format(time.RFC3339Nano), FinishedAt: st.FinishedAt.Format(time.RFC3339Nano),
		Health: st.Health,
	}
	if c.removing && !st.running() {
		s.Status = ctypes.StateRemoving
	}
	if c.task != nil && st.alive() {
		s.Pid = c.task.Pid()
	}
	return s
}

// statusText words the state as listings do: "Up 3 seconds (healthy)".
func statusText(s *ctypes.State, now time.Time) string {
	ago := func(t string) string {
		at, err := time.Parse(time.RFC3339Nano, t)
		if err != nil {
			return ""
		}
		return units.HumanDuration(now.Sub(at))
	}
	switch {
	case s.Paused:
		return "Up " + ago(s.StartedAt) + " (Paused)"
	case s.Restarting:
		return fmt.Sprintf("Restarting (%d) %s ago", s.ExitCode, ago(s.FinishedAt))
	case s.Running && s.Health != nil && s.Health.Status == ctypes.Starting:
		return "Up " + ago(s.StartedAt) + " (health: starting)"
	case s.Running && s.Health != nil:
		return fmt.Sprintf("Up %s (%s)", ago(s.StartedAt), s.Health.Status)
	case s.Running:
		return "Up " + ago(s.StartedAt)
	case s.Status == ctypes.StateRemoving:
		return "Removal In Progress"
	case s.Dead:
		return "Dead"
	case isZeroTime(s.StartedAt):
		return "Created"
	case isZeroTime(s.FinishedAt):
		return ""
	}
	return fmt.Sprintf("Exited (%d) %s ago", s.ExitCode, ago(s.FinishedAt))
}

func isZeroTime(s string) bool {
	t, err := time.Parse(time.RFC3339Nano, s)
	return err != nil || t.IsZero()
}

// commandText shows a command as listings do.
func commandText(path string, args []string) string {
	parts := []string{path}
	for _, a := range args {
		if strings.Contains(a, " ") {
			a = "'" + a + "'"
		}
		parts = append(parts, a)
	}
	return strings.Join(parts, " ")
}

// portSummaries shows exposed and published ports as listings do.
func portSummaries(ports mnet.PortMap) []ctypes.PortSummary {
	out := []ctypes.PortSummary{}
	for p, bindings := range ports {
		if len(bindings) == 0 {
			out = append(out, ctypes.PortSummary{PrivatePort: p.Num(), Type: string(p.Proto())})
			continue
		}
		for _, b := range bindings {
			host, err := mnet.ParsePort(b.HostPort)
			if err != nil {
				continue
			}
			out = append(out, ctypes.PortSummary{IP: b.HostIP, PrivatePort: p.Num(), PublicPort: host.Num(), Type: string(p.Proto())})
		}
	}
	slices.SortFunc(out, func(a, b ctypes.PortSummary) int {
		if d := int(a.PrivatePort) - int(b.PrivatePort); d != 0 {
			return d
		}
		if d := strings.Compare(a.Type, b.Type); d != 0 {
			return d
		}
		if d := int(a.PublicPort) - int(b.PublicPort); d != 0 {
			return d
		}
		return a.IP.Compare(b.IP)
	})
	return out
}
