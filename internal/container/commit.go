package container

import (
	"context"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ctypes "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/opencontainers/go-digest"

	"muelle/internal/container/archive"
	"muelle/internal/container/config"
	"muelle/internal/container/rootfs"
	"muelle/internal/image"
)

// CommitOptions are those of POST /commit.
type CommitOptions struct {
	Ref, Author, Comment string
	Changes              []string       // Dockerfile instructions
	Config               *ctypes.Config // what is set here goes before the container's own
	Pause                bool           // freeze a running container meanwhile
}

// Commit makes an image of what a container changed, on top of the container's image.
func (s *Service) Commit(ctx context.Context, ref string, o CommitOptions) (_ digest.Digest, err error) {
	defer s.timers.Commit.Succeeded(time.Now(), &err)
	c, err := s.find(ref)
	if err != nil {
		return "", err
	}
	c.mu.Lock()
	rec, dead, removing := c.rec, c.st.Status == ctypes.StateDead, c.removing
	c.mu.Unlock()
	switch {
	case dead:
		return "", conflict("You cannot commit container %s which is Dead", c.id)
	case removing:
		return "", conflict("You cannot commit container %s which is being removed", c.id)
	}
	cfg, err := commitConfig(&rec, o)
	if err != nil {
		return "", err
	}
	if o.Pause {
		thaw, err := s.freeze(ctx, c)
		if err != nil {
			return "", err
		}
		defer thaw()
	}
	created := slices.Clone(rec.Config.Entrypoint)
	id, err := s.o.Images.Commit(ctx, image.CommitOptions{
		Parent: rec.Image.Manifest, Ref: o.Ref, Author: o.Author, Comment: o.Comment,
		CreatedBy: strings.Join(append(created, rec.Config.Cmd...), " "), Platform: rec.Platform, Config: cfg,
		Layer: func(ctx context.Context, w io.Writer) (bool, error) {
			var some bool
			err := s.withLayer(ctx, c, func(upper, lower *rootfs.Root) (err error) {
				some, err = archive.PackLayer(ctx, w, upper, lower, archive.IDs{}) // on disk owners are the container's own
				return err
			})
			return some, err
		},
	})
	if err != nil {
		return "", err
	}
	s.event(c, events.ActionCommit, map[string]string{"comment": o.Comment, "imageID": id.String(), "imageRef": o.Ref})
	return id, nil
}

// commitConfig puts the configuration of an image together: what was asked for, then
// the container's.
func commitConfig(rec *record, o CommitOptions) (dockerspec.DockerOCIImageConfig, error) {
	asked := dockerspec.DockerOCIImageConfig{}
	if o.Config != nil {
		asked = imageConfig(o.Config)
	}
	own := imageConfig(rec.Config)
	// What a relative WORKDIR and the shell form of a command start from.
	if asked.WorkingDir == "" {
		asked.WorkingDir = own.WorkingDir
	}
	if len(asked.Shell) == 0 {
		asked.Shell = own.Shell
	}
	if err := image.ApplyChanges(&asked, o.Changes); err != nil {
		return asked, err
	}
	var merged ctypes.Config
	config.MergeImage(&merged, &asked)
	config.MergeImage(&merged, &own)
	out := imageConfig(&merged)
	out.OnBuild = asked.OnBuild
	return out, nil
}

// imageConfig gives what of a container's configuration belongs to an image.
func imageConfig(c *ctypes.Config) dockerspec.DockerOCIImageConfig {
	var out dockerspec.DockerOCIImageConfig
	out.User, out.Env, out.Entrypoint, out.Cmd = c.User, slices.Clone(c.Env), slices.Clone(c.Entrypoint), slices.Clone(c.Cmd)
	out.Volumes, out.WorkingDir, out.Labels, out.StopSignal = maps.Clone(c.Volumes), c.WorkingDir, maps.Clone(c.Labels), c.StopSignal
	//lint:ignore SA1019 deprecated for new images, part of the format of old ones
	out.ArgsEscaped = c.ArgsEscaped
	out.Shell, out.OnBuild = slices.Clone(c.Shell), slices.Clone(c.OnBuild)
	if len(c.ExposedPorts) > 0 {
		out.ExposedPorts = make(map[string]struct{}, len(c.ExposedPorts))
		for p := range c.ExposedPorts {
			out.ExposedPorts[p.String()] = struct{}{}
		}
	}
	if h := c.Healthcheck; h != nil {
		out.Healthcheck = &dockerspec.HealthcheckConfig{
			Test: slices.Clone(h.Test), Interval: h.Interval, Timeout: h.Timeout, StartPeriod: h.StartPeriod,
			StartInterval: h.StartInterval, Retries: h.Retries,
		}
	}
	return out
}

// freeze pauses a container that runs; thaw lets it go on, whatever happened meanwhile.
// A daemon that dies in between does it when it comes back.
func (s *Service) freeze(ctx context.Context, c *entry) (thaw func(), err error) {
	c.mu.Lock()
	running := c.st.Status == ctypes.StateRunning && c.task != nil
	c.mu.Unlock()
	if !running {
		return func() {}, nil
	}
	if err := s.pause(ctx, c, c.id, true); err != nil {
		if errdefs.IsConflict(err) {
			return func() {}, nil // it ended, or somebody else paused it
		}
		return nil, err
	}
	return func() {
		c.mu.Lock()
		ours := c.st.PausedByCommit
		c.mu.Unlock()
		if !ours {
			return // somebody unpaused it meanwhile
		}
		if err := s.Unpause(context.WithoutCancel(ctx), c.id); err != nil && !errdefs.IsConflict(err) && !errdefs.IsNotFound(err) {
			s.log.Error("unpause after commit", "container", c.id, "err", err)
		}
	}, nil
}

// Changes lists what a container added to, changed in and deleted from its image.
func (s *Service) Changes(ctx context.Context, ref string) (changes []ctypes.FilesystemChange, err error) {
	defer s.timers.Changes.Succeeded(time.Now(), &err)
	c, err := s.find(ref)
	if err != nil {
		return nil, err
	}
	err = s.withLayer(ctx, c, func(upper, lower *rootfs.Root) (err error) {
		changes, err = archive.Changes(ctx, upper, lower)
		return err
	})
	return changes, err
}

// withLayer gives a container's own layer, as it is on disk, and what its image's layers
// show. A container that was never started has no layer yet: f is not called.
func (s *Service) withLayer(ctx context.Context, c *entry, f func(upper, lower *rootfs.Root) error) error {
	rec, _ := c.snapshot()
	if err := s.acquire(ctx, c); err != nil {
		return err
	}
	err := s.findLayers(ctx, c, &rec)
	layers := c.lower
	c.op.release()
	if err != nil {
		return err
	}
	own, err := os.Open(c.upper())
	if os.IsNotExist(err) {
		return c.stillThere()
	}
	if err != nil {
		return err
	}
	upper := rootfs.NewRoot(own)
	defer upper.Close()
	if len(layers) == 0 {
		layers = []string{c.emptyLayer()}
	}
	lower, err := rootfs.Open(rootfs.Options{Lower: layers})
	if err != nil {
		return err
	}
	defer lower.Close()
	if err := f(upper, lower); err != nil {
		return err
	}
	return c.stillThere()
}
