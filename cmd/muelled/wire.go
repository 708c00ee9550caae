package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	systemtypes "github.com/moby/moby/api/types/system"

	"muelle/api"
	"muelle/internal/build"
	"muelle/internal/container"
	"muelle/internal/event"
	"muelle/internal/image"
	"muelle/internal/linux/memory"
	"muelle/internal/linux/userns"
	"muelle/internal/logdriver/secure"
	"muelle/internal/network"
	"muelle/internal/project"
	"muelle/internal/remote"
	"muelle/internal/runtime/native"
	"muelle/internal/runtime/outside"
	"muelle/internal/server"
	"muelle/internal/store"
	"muelle/internal/system"
	"muelle/internal/volume"
	"muelle/internal/why"
	"muelle/internal/zone"
	"muelle/internal/zone/exposure"
)

// endPatience is how long the daemon's end may take beside that of the containers.
const endPatience = 10 * time.Second

// remembered is how many events listeners may ask back for.
const remembered = 256

// engine is everything that was opened, to be closed in the opposite order.
type engine struct {
	containers *container.Service
	server     *server.Server
	closers    []closer
}

type closer struct {
	name  string
	close func(context.Context) error
}

func (e *engine) onClose(name string, f func(context.Context) error) {
	e.closers = append(e.closers, closer{name, f})
}

func (e *engine) close(ctx context.Context) error {
	var errs []error
	for i := len(e.closers) - 1; i >= 0; i-- {
		if err := e.closers[i].close(ctx); err != nil {
			errs = append(errs, fmt.Errorf("close %s: %w", e.closers[i].name, err))
		}
	}
	return errors.Join(errs...)
}

// serve opens the engine and answers requests until ctx ends.
func serve(ctx context.Context, stop context.CancelFunc, r *reloader, log *slog.Logger) error {
	begun, c := time.Now(), r.now
	p, err := takePlaces(c)
	if err != nil {
		return err
	}
	defer p.release()
	listeners, err := listen(c, p, log)
	if err != nil {
		return err
	}
	var stopContainers atomic.Bool
	shutdown := func(containers bool) {
		stopContainers.Store(stopContainers.Load() || containers)
		stop()
	}
	e, err := open(ctx, r, p, log, shutdown)
	if err != nil {
		for _, l := range listeners {
			l.Close()
		}
		return err
	}
	metrics, err := c.listenMetrics()
	if err != nil {
		for _, l := range listeners {
			l.Close()
		}
		return errors.Join(err, e.close(context.WithoutCancel(ctx)))
	}
	log.Info("muelled is ready", "version", api.Version, "took", time.Since(begun))
	if _, err := daemon.SdNotify(false, daemon.SdNotifyReady); err != nil {
		log.Warn("notify systemd", "err", err)
	}
	unwatch := r.watch()
	err = e.answer(ctx, stop, listeners, metrics)
	unwatch()
	c = r.current()
	if _, nerr := daemon.SdNotify(false, daemon.SdNotifyStopping); nerr != nil {
		log.Warn("notify systemd", "err", nerr)
	}
	// What is closed now belongs to nobody's request any more.
	ctx = context.WithoutCancel(ctx)
	if stopContainers.Load() || !c.LiveRestore {
		err = errors.Join(err, e.stopContainers(ctx, c.ShutdownTimeout))
	}
	ending, cancel := context.WithTimeout(ctx, endPatience)
	defer cancel()
	return errors.Join(err, e.close(ending))
}

// stopContainers waits for them no longer than shutdown-timeout allows.
func (e *engine) stopContainers(ctx context.Context, timeout int) error {
	if limit := e.containers.StopAllTimeout(timeout); limit >= 0 {
		limited, cancel := context.WithTimeout(ctx, time.Duration(limit)*time.Second)
		defer cancel()
		ctx = limited
	}
	return e.containers.StopAll(ctx)
}

// answer serves every listener; the first that fails ends the others.
func (e *engine) answer(ctx context.Context, stop context.CancelFunc, listeners []net.Listener, metrics net.Listener) error {
	errs := make(chan error)
	count := len(listeners)
	run := func(serve func(context.Context, net.Listener) error, l net.Listener) {
		err := serve(ctx, l)
		stop()
		errs <- err
	}
	for _, l := range listeners {
		go run(e.server.Serve, l)
	}
	if metrics != nil {
		count++
		go run(e.server.ServeMetrics, metrics)
	}
	var all []error
	for range count {
		all = append(all, <-errs)
	}
	return errors.Join(all...)
}

// ownTemp makes data-root/tmp the process's temporary folder. BuildKit mounts layers
// and secrets below it; so what a crash leaves there is known to be this daemon's,
// and nobody else can get in.
func ownTemp(data string) (string, error) {
	dir := filepath.Join(data, "tmp")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make temporary folder: %w", err)
	}
	return dir, os.Setenv("TMPDIR", dir)
}

// open builds the services from the bottom up. On error none stays open.
func open(ctx context.Context, r *reloader, p *places, log *slog.Logger, shutdown func(bool)) (_ *engine, err error) {
	e, c := &engine{}, r.now
	defer func() {
		if err != nil {
			err = errors.Join(err, e.close(context.WithoutCancel(ctx)))
		}
	}()
	shim, err := beside("muelle-shim")
	if err != nil {
		return e, err
	}
	driver, err := c.usableDriver()
	if err != nil {
		return e, err
	}
	temp, err := ownTemp(p.data)
	if err != nil {
		return e, err
	}
	bus := event.NewBus(remembered)
	resolver, err := remote.New(remote.Options{Mirrors: c.RegistryMirrors, Insecure: c.InsecureRegistries})
	if err != nil {
		return e, err
	}
	confined, err := securityDefaults(c, log)
	if err != nil {
		return e, err
	}
	shimLabel := ""
	if confined.Modules.SELinux {
		if shimLabel, err = labelLayers(filepath.Join(p.data, "store", "snapshots")); err != nil {
			return e, err
		}
	}
	st, err := store.Open(ctx, filepath.Join(p.data, "store"), log)
	if err != nil {
		return e, err
	}
	e.onClose("store", func(context.Context) error { return st.Close() })
	images := image.New(image.Options{Store: st, Remote: resolver, Bus: bus, Log: log, MaxDownloads: c.MaxDownloads, MaxUploads: c.MaxUploads, MaxAttempts: c.MaxAttempts})

	share, err := c.realtime()
	if err != nil {
		return e, err
	}
	rt, err := native.New(native.Options{ShimPath: shim, ShimLabel: shimLabel, ExecRoot: p.exec, CgroupParent: p.cgroupParent(), Realtime: share, Log: log})
	if err != nil {
		return e, err
	}
	e.onClose("runtime", func(context.Context) error { return rt.Close() })
	networks, err := openNetworks(ctx, c, p, bus, log)
	if err != nil {
		return e, err
	}
	e.onClose("networks", networks.Close)
	volumes, problems := volume.Open(filepath.Join(p.data, "volumes"), bus)
	for _, err := range problems {
		log.Warn("read volume", "err", err)
	}
	users, err := userNamespaces(c, log)
	if err != nil {
		return e, err
	}
	binaries := outside.New(rt, c.Runtimes, filepath.Join(p.data, "docker-init"))
	e.containers, err = container.Open(ctx, container.Options{
		Root: filepath.Join(p.data, "containers"), ExecRoot: filepath.Join(p.exec, "containers"),
		Instance: p.instance, CgroupParent: p.cgroupParent(), CgroupDriver: driver, DefaultCgroupParent: c.CgroupParent,
		Runtime: binaries,
		Images:  images, Networks: networks, Volumes: volumes, Bus: bus, Log: log,
		DefaultLog: container.LogDefaults{Type: c.LogDriver, Config: c.LogOpts}, LogHelper: filepath.Join(filepath.Dir(shim), secure.BinaryName),
		Defaults: c.containerDefaults(), Init: c.Init, UserNS: users, Security: confined,
		// Projects start their own, in the order of their dependencies.
		StartOnBoot: func(labels map[string]string) bool { return labels[api.LabelProject] == "" },
	})
	if err != nil {
		return e, err
	}
	e.onClose("containers", e.containers.Close)
	builds, err := build.Open(ctx, build.Options{
		Root: filepath.Join(p.data, "buildkit"), ExecRoot: filepath.Join(p.exec, "build"), Store: st, Images: images,
		Runtime: rt, Networks: networks, Remote: resolver, Bus: bus, Temp: temp, Instance: p.instance, CgroupParent: p.cgroupParent(), Keep: c.Builder.keep(), NoHostNetwork: c.Builder.noHostNetwork(), AppArmor: func() (string, error) { return buildProfile(confined) }, Remap: users.Remap, Log: log,
	})
	if err != nil {
		return e, err
	}
	e.onClose("builds", func(context.Context) error { return builds.Close() })
	projects, err := project.Open(ctx, project.Options{
		Root: filepath.Join(p.data, "projects"), Containers: e.containers, Networks: networks, Volumes: volumes, Images: images, Bus: bus, Log: log,
	})
	if err != nil {
		return e, err
	}
	e.onClose("projects", func(context.Context) error { projects.Close(); return nil })
	id, err := system.ID(p.data)
	if err != nil {
		return e, err
	}
	sys := system.New(system.Options{
		Containers: e.containers, Images: images, Volumes: volumes, Builds: builds, Networks: networks, Remote: resolver, Bus: bus, Runtime: rt,
		ID: id, DataRoot: p.data, ExecRoot: p.exec, Version: api.Version, MinVersion: c.MinAPIVersion, Experimental: c.Experimental, Shim: shim,
		AddressPools: shownPools(c.AddressPools), Live: c.live(), LogDriver: c.LogDriver, Warnings: append(c.warnings(), securityWarnings(c, confined)...), CgroupDriver: string(driver), SecurityOptions: securityOptions(c, confined), Log: log,
	})
	r.containers, r.images, r.remote, r.runtimes, r.system, r.bus, r.id = e.containers, images, resolver, binaries, sys, bus, id
	e.server = server.New(server.Options{
		Containers: e.containers, Images: images, Networks: networks, Volumes: volumes, Build: builds, Projects: projects, Why: why.New(e.containers, networks.Queries), Zones: zone.New(networks, e.containers.Pids),
		Exposure: exposure.New(exposure.Options{Networks: networks, Pids: e.containers.Pids, API: c.tcpHosts(), Log: log}),
		System:   sys, Bus: bus, Version: api.Version, MinVersion: c.MinAPIVersion, Experimental: c.Experimental, Debug: c.Debug, Shutdown: shutdown,
		Idle: func() { release(log) }, Log: log,
	})
	return e, nil
}

// userNamespaces finds the ids that containers may have instead of the host's.
func userNamespaces(c *config, log *slog.Logger) (u container.UserNS, err error) {
	if u.Pool, err = userns.OpenPool("/", c.UsernsPool); err != nil || c.UsernsRemap == "" {
		return u, err
	}
	if err := userns.Supported(); err != nil {
		return u, fmt.Errorf("userns-remap: %w", err)
	}
	if u.Remap, err = userns.Remap("/", c.UsernsRemap); err != nil {
		return u, err
	}
	u.Pool.Except(u.Remap)
	log.Info("containers and steps of builds run in a user namespace", "uids", u.Remap.UIDs, "gids", u.Remap.GIDs)
	return u, nil
}

// release gives memory back when nobody asks for anything.
func release(log *slog.Logger) {
	if err := memory.Release(); err != nil {
		log.Warn("give memory back", "err", err)
	}
}

func openNetworks(ctx context.Context, c *config, p *places, bus *event.Bus, log *slog.Logger) (*network.Service, error) {
	bridge, err := c.defaultBridge()
	if err != nil {
		return nil, err
	}
	o := network.Options{
		Root: filepath.Join(p.data, "networks"), Pending: filepath.Join(p.exec, "lookups"), Instance: p.instance, Bus: bus, Log: log,
		DefaultBridge: bridge, NetworkOptions: c.NetworkOpts, HostGateways: c.hostGateways(),
		KeepOut: !c.Cooperation,
	}
	for _, pool := range c.AddressPools {
		o.AddressPools = append(o.AddressPools, network.AddressPool{Base: pool.Base, Size: pool.Size})
	}
	return network.Open(ctx, o)
}

func shownPools(pools []addressPool) []systemtypes.NetworkAddressPool {
	var out []systemtypes.NetworkAddressPool
	for _, p := range pools {
		out = append(out, systemtypes.NetworkAddressPool{Base: p.Base, Size: p.Size})
	}
	return out
}

// beside finds a program of ours in the folder of this one: PATH is never asked.
func beside(name string) (string, error) {
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return "", fmt.Errorf("find %s: %w", name, err)
	}
	path := filepath.Join(filepath.Dir(self), name)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%s is missing beside %s", name, self)
	}
	return path, nil
}
