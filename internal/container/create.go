package container

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	ctypes "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	mnet "github.com/moby/moby/api/types/network"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"muelle/internal/container/config"
	"muelle/internal/container/logopt"
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
	if err := config.Validate(&cfg); err != nil {
		return nil, err
	}
	if err := s.checkRuntime(hc.Runtime); err != nil {
		return nil, err
	}
	if err := config.ValidateHost(&cfg, &hc); err != nil {
		return nil, err
	}
	if _, err := oci.ParseSecurityOpt(hc.SecurityOpt, s.o.Security.Modules); err != nil {
		return nil, err
	}
	n := &creation{c: s.newEntry(id.New(), hc.AutoRemove), warnings: []string{}}
	var err error
	if n.userns, err = s.checkUserns(&hc); err != nil {
		return nil, err
	}
	if cfg.Image == "" {
		return nil, invalid("no image specified")
	}
	img, err := s.o.Images.Get(ctx, cfg.Image)
	if err != nil {
		return nil, err
	}
	n.img = img
	if err := n.checkPlatform(o.Platform); err != nil {
		return nil, err
	}
	own := cfg
	config.MergeImage(&cfg, &img.Config.Config)
	if err := config.MergeProbe(&cfg, &own, &img.Config.Config); err != nil {
		return nil, err
	}
	if err := config.Validate(&cfg); err != nil {
		return nil, fmt.Errorf("configuration of the image: %w", err)
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
	n.rec = record{
		ID: n.c.id, Created: time.Now().UTC(), Platform: img.Config.Platform,
		Image:  imageRecord{ID: img.ID, Manifest: img.Manifest, ChainID: img.ChainID, Size: img.Size},
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
	if len(hc.CapAdd)+len(hc.CapDrop)+len(hc.SecurityOpt) > 0 {
		// What the document of the runtime refuses is refused now, not at the start.
		bare := hc
		bare.Devices = nil
		_, err = oci.Spec(oci.Options{ID: n.c.id, Config: &cfg, HostConfig: &bare, CgroupVersion: cgroup.Version(), Modules: s.o.Security.Modules})
	}
	return n, err
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

// hostDefaults fills what the daemon decides.
func (s *Service) hostDefaults(cfg *ctypes.Config, hc *ctypes.HostConfig) {
	d := s.defaults.Load()
	if hc.NetworkMode == "" || hc.NetworkMode.IsDefault() {
		hc.NetworkMode = mnet.NetworkBridge
	}
	if cfg.NetworkDisabled {
		hc.NetworkMode = mnet.NetworkNone
	}
	if hc.IpcMode == "" {
		hc.IpcMode = ctypes.IPCModePrivate
		if d.IpcMode != "" {
			hc.IpcMode = d.IpcMode
		}
	}
	if hc.CgroupnsMode == "" {
		hc.CgroupnsMode = ctypes.CgroupnsModeHost
		if cgroup.Version() == 2 {
			hc.CgroupnsMode = ctypes.CgroupnsModePrivate
		}
		if d.CgroupnsMode != "" {
			hc.CgroupnsMode = d.CgroupnsMode
		}
	}
	if hc.ShmSize == 0 && (hc.IpcMode.IsPrivate() || hc.IpcMode.IsShareable()) {
		hc.ShmSize = d.ShmSize
	}
	d.addUlimits(hc)
	if hc.RestartPolicy.Name == "" {
		hc.RestartPolicy.Name = ctypes.RestartPolicyDisabled
	}
	if hc.Memory > 0 && hc.MemorySwap == 0 {
		hc.MemorySwap = 2 * hc.Memory
	}
	if hc.PidsLimit != nil && *hc.PidsLimit <= 0 {
		hc.PidsLimit = nil
	}
	masked, readonly := oci.DefaultPaths()
	if !hc.Privileged && !slices.Contains(hc.SecurityOpt, "systempaths=unconfined") {
		if hc.MaskedPaths == nil {
			hc.MaskedPaths = masked
		}
		if hc.ReadonlyPaths == nil {
			hc.ReadonlyPaths = readonly
		}
	}
	hc.LogConfig.Type, hc.LogConfig.Config = logopt.Merge(hc.LogConfig.Type, hc.LogConfig.Config, s.o.DefaultLog.Type, s.o.DefaultLog.Config)
	if hc.Runtime == "" {
		hc.Runtime = cmp.Or(s.o.DefaultRuntime, OwnRuntime)
	}
}

func (s *Service) setHostname(cid string, cfg *ctypes.Config, hc *ctypes.HostConfig) error {
	if cfg.Hostname != "" || hc.NetworkMode.IsContainer() {
		return nil
	}
	if hc.NetworkMode.IsHost() || hc.UTSMode.IsHost() {
		name, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("read the host's name: %w", err)
		}
		cfg.Hostname = name
		return nil
	}
	cfg.Hostname = id.Short(cid)
	return nil
}

// resolveModes replaces names by ids in container:NAME, so that renaming does not
// break them.
func (s *Service) resolveModes(hc *ctypes.HostConfig) error {
	resolve := func(namespace, ref string) (string, error) {
		c, err := s.find(ref)
		if err != nil {
			// Not found would make a client look for the image elsewhere.
			return "", invalid("joining %s namespace of container: %s", namespace, err)
		}
		return "container:" + c.id, nil
	}
	if hc.NetworkMode.IsContainer() {
		mode, err := resolve("network", hc.NetworkMode.ConnectedContainer())
		if err != nil {
			return err
		}
		hc.NetworkMode = ctypes.NetworkMode(mode)
	}
	if hc.PidMode.IsContainer() {
		mode, err := resolve("PID", hc.PidMode.Container())
		if err != nil {
			return err
		}
		hc.PidMode = ctypes.PidMode(mode)
	}
	if hc.IpcMode.IsContainer() {
		mode, err := resolve("IPC", hc.IpcMode.Container())
		if err != nil {
			return err
		}
		hc.IpcMode = ctypes.IpcMode(mode)
	}
	return nil
}

// mountsOf gives the mounts of another container for --volumes-from.
func (s *Service) mountsOf(ref string) ([]mountpoint.Mount, error) {
	c, err := s.find(ref)
	if err != nil {
		return nil, invalid("%s", err)
	}
	rec, _ := c.snapshot()
	return rec.Mounts, nil
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

// makeFolders makes the folders of a container: one on disk for its layer and its log,
// and, where its record goes with it, the one for what is valid for one boot.
func (c *entry) makeFolders() error {
	if err := os.Mkdir(c.dir, 0o700); err != nil {
		return fmt.Errorf("make container's folder: %w", err)
	}
	if c.volatile {
		if err := os.Mkdir(c.execDir, 0o700); err != nil {
			return errors.Join(fmt.Errorf("make container's folder: %w", err), os.Remove(c.dir))
		}
	}
	return c.openRecords()
}

// makeLayer makes the writable layer, where it is missing.
func (c *entry) makeLayer() error {
	for _, dir := range []string{c.dir, c.upper(), c.work()} {
		if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
			return fmt.Errorf("make container's layer: %w", err)
		}
	}
	// The root directory of the container is the layer's: everybody may enter it.
	if err := os.Chmod(c.upper(), 0o755); err != nil {
		return fmt.Errorf("make container's layer: %w", err)
	}
	if len(c.lower) > 0 {
		return nil
	}
	if err := os.Mkdir(c.emptyLayer(), 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("make container's layer: %w", err)
	}
	return nil
}

// emptyLayer stands below an image without layers: an overlay needs something.
func (c *entry) emptyLayer() string { return filepath.Join(c.layers, "empty") }

func (c *entry) removeFolders() error {
	return errors.Join(c.unmountShm(), os.RemoveAll(c.dir), os.RemoveAll(c.execDir))
}

func (c *entry) upper() string { return filepath.Join(c.layers, "upper") }
func (c *entry) work() string  { return filepath.Join(c.layers, "work") }

// writeRecord makes the record durable, except for one that dies with its run.
func (s *Service) writeRecord(c *entry, rec *record) error {
	return c.records.Save(recordName, rec, !c.volatile)
}

// endpoints gives the networks that a container is attached to, by name.
func (s *Service) endpoints(hc *ctypes.HostConfig, n *mnet.NetworkingConfig) (map[string]*mnet.EndpointSettings, error) {
	out := map[string]*mnet.EndpointSettings{}
	if n != nil {
		for name, settings := range n.EndpointsConfig {
			if name == mnet.NetworkDefault {
				name = mnet.NetworkBridge
			}
			if err := validateEndpoint(name, settings); err != nil {
				return nil, err
			}
			out[s.networkName(name)] = settings.Copy()
		}
	}
	mode := string(hc.NetworkMode)
	switch {
	case hc.NetworkMode.IsContainer():
		if len(out) > 0 {
			return nil, invalid("conflicting options: cannot attach both user-defined and non-user-defined network-modes")
		}
		return out, nil
	case hc.NetworkMode.IsHost(), hc.NetworkMode.IsNone():
		for name := range out {
			if name != mode {
				return nil, invalid("conflicting options: cannot attach both user-defined and non-user-defined network-modes")
			}
		}
		if out[mode] == nil {
			out[mode] = nil
		}
	case hc.NetworkMode.IsBridge():
		// Docker attaches to the bridge only where no endpoint says otherwise.
		if len(out) == 0 {
			out[mode] = nil
		}
	default:
		if _, ok := out[s.networkName(mode)]; !ok {
			out[s.networkName(mode)] = nil
		}
	}
	for name, settings := range out {
		if settings == nil {
			out[name] = &mnet.EndpointSettings{}
		}
	}
	return out, nil
}

func validateEndpoint(name string, e *mnet.EndpointSettings) error {
	if name == "" {
		return invalid("no network name or ID supplied")
	}
	if e == nil {
		return nil
	}
	switch {
	case len(e.Links) > 0:
		return unsupported("linking containers (links of network " + name + ")")
	case len(e.DriverOpts) > 0:
		return unsupported("driver options of an endpoint (network " + name + ")")
	case e.IPAMConfig != nil && len(e.IPAMConfig.LinkLocalIPs) > 0:
		return unsupported("link-local addresses of an endpoint (network " + name + ")")
	}
	for _, a := range e.Aliases {
		if a == "" || strings.ContainsAny(a, " \x00") {
			return invalid("invalid alias %q for network %s", a, name)
		}
	}
	return nil
}

// networkName gives a network's name for a name or id; one that does not exist
// (yet) keeps what was asked for, and the start says so.
func (s *Service) networkName(ref string) string {
	n, err := s.o.Networks.Get(ref)
	if err != nil {
		return ref
	}
	return n.Name
}

// platformName shows a platform as inspect does.
func platformName(p ocispec.Platform) string {
	if p.OS == "" {
		return "linux"
	}
	return path.Clean(p.OS)
}
