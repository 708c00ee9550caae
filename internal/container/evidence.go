package container

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"time"

	ctypes "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"muelle/internal/container/layer"
)

// Evidence is what is known of a container to somebody who explains what happened to
// it. It is a copy.
type Evidence struct {
	ID, Name   string
	Path       string
	Args       []string
	Config     *ctypes.Config
	HostConfig *ctypes.HostConfig
	Mounts     []ctypes.MountPoint
	// Endpoints by network: those of the run, or what the next will have.
	Endpoints map[string]*network.EndpointSettings
	State     *ctypes.State

	StartedAt, FinishedAt time.Time
	// FailingSince is when the health check began to fail, if its failing streak is not 0.
	FailingSince     time.Time
	RestartCount     int
	Started, Stopped bool
	// Endings of the last runs and attempts to start, oldest first.
	Endings []Ending
	// RestartAt is when the policy starts it again; zero: no restart is waited for.
	RestartAt time.Time
	// UID and GID that the process has; -1 where they cannot be found out.
	UID, GID int
	// Dir is where the writable layer and the log are.
	Dir string

	layers []string
}

// Evidence gives what is known of a container.
func (s *Service) Evidence(_ context.Context, ref string) (*Evidence, error) {
	c, err := s.find(ref)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	rec, st := c.rec, c.st
	e := &Evidence{
		ID: c.id, Name: rec.Name, Path: rec.Path, Args: rec.Args, Config: rec.Config, HostConfig: rec.HostConfig,
		Mounts: mountPoints(rec.Mounts), Endpoints: s.networksOf(&rec, &st), State: c.apiState(), StartedAt: st.StartedAt, FinishedAt: st.FinishedAt, FailingSince: st.FailingSince,
		RestartCount: st.RestartCount, Started: st.Started, Stopped: st.Stopped, Endings: st.Endings, Dir: c.dir,
		layers: append([]string{c.upper()}, c.lower...), UID: -1, GID: -1,
	}
	if c.timer != nil {
		e.RestartAt = st.FinishedAt.Add(c.backoff.wait)
	}
	c.mu.Unlock()
	user, _, err := resolveUser(rec.Config.User, nil, func(name string) ([]byte, error) { return layer.ReadFile(e.layers, name) })
	if err == nil {
		e.UID, e.GID = int(user.UID), int(user.GID)
	}
	return e, nil
}

// Root opens the container's root directory: of one that runs as its processes see
// it, else as the image and the writable layer make it, without mounts. What lies in
// it is the container's: it is to be looked at by layer.OpenInRoot only.
func (e *Evidence) Root() (*os.File, error) {
	if e.State.Pid != 0 {
		return os.Open(filepath.Join("/proc", strconv.Itoa(e.State.Pid), "root"))
	}
	layers := e.layers
	if _, err := os.Stat(layers[0]); err != nil {
		layers = layers[1:]
	}
	return layer.Open(layers)
}
