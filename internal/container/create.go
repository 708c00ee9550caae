package container

import (
	"context"
	"fmt"
	"path"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	ctypes "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"muelle/internal/container/config"
	"muelle/internal/container/mountpoint"
	"muelle/internal/id"
	"muelle/internal/image"
	"muelle/internal/linux/cgroup"
	"muelle/internal/linux/userns"
	"muelle/internal/oci"
	"muelle/internal/step"
)

// creation is what the steps of a creation hand over.
type creation struct {
	c        *entry
	rec      record
	img      *image.Image
	warnings []string
	acquired []mountpoint.Mount
	userns   userns.Mode
}

// Create makes a container from an image and configurations. Nothing runs yet; the
// name, the image's layers and the volumes are held.
func (s *Service) Create(ctx context.Context, o CreateOptions) (ctypes.CreateResponse, error) {
	begun := time.Now()
	n, err := s.plan(ctx, o)
	if err != nil {
		return ctypes.CreateResponse{}, err
	}
	if err := s.make(ctx, n, o.Name); err != nil {
		return ctypes.CreateResponse{}, err
	}
	s.timers.Create.Since(begun)
	return ctypes.CreateResponse{ID: n.c.id, Warnings: n.warnings}, nil
}

// make makes what was planned.
func (s *Service) make(ctx context.Context, n *creation, name string) error {
	defer s.occupy(n.c.id)()
	if err := s.acquire(ctx, n.c); err != nil {
		return err
	}
	defer n.c.op.release()
	err := step.Run(ctx,
		step.Step{Name: "reserve name", Do: func(context.Context) (err error) {
			n.rec.Name, err = s.reserveName(name, n.c.id)
			return err
		}, Undo: func(context.Context) error { s.releaseName(n.rec.Name, n.c.id); return nil }},
		step.Step{Name: "take ids", Do: n.takeIDs(s), Undo: func(context.Context) error { s.o.UserNS.Pool.Release(n.c.id); return nil }},
		step.Step{Name: "hold image", Do: n.holdImage(s), Undo: func(context.Context) error {
			s.o.Images.Unhold(n.c.id)
			s.o.Images.Release(n.c.id)
			return nil
		}},
		step.Step{Name: "make folders", Do: func(context.Context) error { return n.c.makeFolders() }, Undo: func(context.Context) error {
			return n.c.removeFolders()
		}},
		step.Step{Name: "note anonymous volumes", Do: func(context.Context) error { return n.c.noteAnonymous(n.rec.Mounts) }},
		step.Step{Name: "acquire volumes", Do: n.acquireVolumes(s), Undo: func(ctx context.Context) error {
			s.releaseVolumes(ctx, n.c.id, n.acquired, true)
			return nil
		}},
		step.Step{Name: "write record", Do: func(context.Context) error { return s.writeRecord(n.c, &n.rec) }},
	)
	if err != nil {
		return err
	}
	n.c.rec, n.c.st = n.rec, state{Status: ctypes.StateCreated}
	s.mu.Lock()
	s.byID[n.c.id] = n.c
	s.mu.Unlock()
	s.event(n.c, events.ActionCreate, nil)
	return nil
}

// plan checks what was asked for and puts the record together; it changes nothing.
func (s *Service) plan(ctx context.Context, o CreateOptions) (*creation, error) {
	if o.Config == nil {
		return nil, invalid("config cannot be empty in order to create a container")
	}
	cfg, hc := *o.Config, ctypes.HostConfig{}
	if o.HostConfig != nil {
		hc = *o.HostConfig
	}
	if err := s.checkRequest(&cfg, &hc); err != nil {
		return nil, err
	}
	n := &creation{c: s.newEntry(id.New(), hc.AutoRemove), warnings: []string{}}
	var err error
	if n.userns, err = s.checkUserns(&hc); err != nil {
		return nil, err
	}
	if err := s.applyImage(ctx, n, &cfg, o.Platform); err != nil {
		return nil, err
	}
	program, args := config.Command(&cfg)
	if program == "" && len(args) == 0 {
		return nil, invalid("no command specified")
	}
	s.hostDefaults(&cfg, &hc)
	n.warnings = append(n.warnings, config.Fit(&hc.Resources, cgroup.HostFeatures())...)
	if err := s.checkCgroupParent(hc.CgroupParent); err != nil {
		return nil, err
	}
	mounts, err := mountpoint.ParseAll(&cfg, &hc, s.mountsOf)
	if err != nil {
		return nil, err
	}
	if err := s.findImages(ctx, mounts); err != nil {
		return nil, err
	}
	if err := s.setHostname(n.c.id, &cfg, &hc); err != nil {
		return nil, err
	}
	endpoints, err := s.endpoints(&hc, o.Networking)
	if err != nil {
		return nil, err
	}
	if err := s.resolveModes(&hc); err != nil {
		return nil, err
	}
	if err := s.resolveLinks(&hc); err != nil {
		return nil, err
	}
	n.rec = record{
		ID: n.c.id, Created: time.Now().UTC(), Platform: n.img.Config.Platform,
		Image:  imageRecord{ID: n.img.ID, Manifest: n.img.Manifest, ChainID: n.img.ChainID, Size: n.img.Size},
		Config: &cfg, HostConfig: &hc, Path: program, Args: args,
		Mounts: mounts, Endpoints: endpoints,
	}
	if n.rec.Log, err = logConfig(&n.rec, n.c); err != nil {
		return nil, err
	}
	if err := s.labels(&n.rec); err != nil {
		return nil, err
	}
	n.warn()
	return n, s.checkSpec(&n.rec)
}

// checkRequest refuses what can be refused without the image.
func (s *Service) checkRequest(cfg *ctypes.Config, hc *ctypes.HostConfig) error {
	if err := config.Validate(cfg); err != nil {
		return err
	}
	if err := s.checkRuntime(hc.Runtime); err != nil {
		return err
	}
	if err := config.ValidateHost(cfg, hc); err != nil {
		return err
	}
	_, err := oci.ParseSecurityOpt(hc.SecurityOpt, s.o.Security.Modules)
	return err
}

// applyImage finds the image, and fills in from it what the request left open.
func (s *Service) applyImage(ctx context.Context, n *creation, cfg *ctypes.Config, platform string) (err error) {
	if cfg.Image == "" {
		return invalid("no image specified")
	}
	if n.img, err = s.o.Images.Get(ctx, cfg.Image); err != nil {
		return err
	}
	if err := n.checkPlatform(platform); err != nil {
		return err
	}
	own := *cfg
	img := n.img.Config.Config
	img.Labels = config.OfNoProject(img.Labels)
	config.MergeImage(cfg, &img)
	if err := config.MergeProbe(cfg, &own, &img); err != nil {
		return err
	}
	if err := config.Validate(cfg); err != nil {
		return fmt.Errorf("configuration of the image: %w", err)
	}
	return nil
}

// checkSpec refuses now what the document of the runtime would refuse at the start.
func (s *Service) checkSpec(rec *record) error {
	hc := *rec.HostConfig
	if len(hc.CapAdd)+len(hc.CapDrop)+len(hc.SecurityOpt) == 0 {
		return nil
	}
	hc.Devices = nil
	_, err := oci.Spec(oci.Options{ID: rec.ID, Config: rec.Config, HostConfig: &hc, CgroupVersion: cgroup.Version(), Modules: s.o.Security.Modules})
	return err
}

func (n *creation) checkPlatform(asked string) error {
	have := n.img.Config.Platform
	if asked != "" {
		want, err := platforms.Parse(asked)
		if err != nil {
			return invalid("invalid platform: %s", err)
		}
		if !platforms.Only(want).Match(have) {
			return errdefs.ErrNotFound.WithMessage(fmt.Sprintf("image with reference %s was found but its platform (%s) does not match the specified platform (%s)",
				n.img.ID, platforms.FormatAll(have), platforms.FormatAll(want)))
		}
		return nil
	}
	if have.Architecture != "" && !platforms.Default().Match(have) {
		n.warnings = append(n.warnings, fmt.Sprintf("The requested image's platform (%s) does not match the detected host platform (%s) and no specific platform was requested",
			platforms.FormatAll(have), platforms.FormatAll(platforms.DefaultSpec())))
	}
	return nil
}

func (n *creation) warn() {
	hc := n.rec.HostConfig
	if hc.NetworkMode.IsHost() && (len(hc.PortBindings) > 0 || hc.PublishAllPorts) {
		n.warnings = append(n.warnings, "Published ports are discarded when using host network mode")
	}
}

func (n *creation) holdImage(s *Service) func(context.Context) error {
	return func(ctx context.Context) (err error) {
		if n.c.lower, err = s.o.Images.Lower(ctx, n.img, n.c.id); err != nil {
			return err
		}
		if err := s.holdMountedImages(ctx, n.c, n.rec.Mounts); err != nil {
			s.o.Images.Release(n.c.id)
			return err
		}
		s.o.Images.Hold(n.img.ID, n.c.id, n.rec.Name, false)
		return nil
	}
}

// platformName shows a platform as inspect does.
func platformName(p ocispec.Platform) string {
	if p.OS == "" {
		return "linux"
	}
	return path.Clean(p.OS)
}
