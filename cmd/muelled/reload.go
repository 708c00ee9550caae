package main

import (
	"encoding/json"
	"log/slog"
	"maps"
	"os"
	"os/signal"
	"reflect"
	"slices"
	"strconv"
	"sync"

	"github.com/coreos/go-systemd/v22/daemon"
	containertypes "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"golang.org/x/sys/unix"

	"muelle/internal/container"
	"muelle/internal/event"
	"muelle/internal/image"
	"muelle/internal/remote"
	"muelle/internal/runtime/outside"
	"muelle/internal/system"
)

// reloader takes over what SIGHUP may change: the keys marked so in options.
type reloader struct {
	args       []string // of the command line, which goes before the file as at the start
	level      *slog.LevelVar
	containers *container.Service
	images     *image.Service
	remote     *remote.Resolver
	runtimes   *outside.Runtime
	system     *system.Service
	bus        *event.Bus
	id         string
	log        *slog.Logger

	mu  sync.Mutex
	now *config // what holds
}

// current is the configuration that holds. It is replaced, never changed.
func (r *reloader) current() *config {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now
}

// watch reloads at every SIGHUP until the returned function is called.
func (r *reloader) watch() (stop func()) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGHUP)
	var done sync.WaitGroup
	done.Go(func() {
		for range signals {
			r.reload()
		}
	})
	return func() {
		signal.Stop(signals)
		close(signals)
		done.Wait()
	}
}

// reload reads daemon.json again. What is wrong with it is logged, and the old
// configuration stays.
func (r *reloader) reload() {
	r.log.Info("got signal to reload configuration", "file", r.current().file)
	if _, err := daemon.SdNotify(false, daemon.SdNotifyReloading+"\n"+monotonic()); err != nil {
		r.log.Warn("notify systemd", "err", err)
	}
	defer func() {
		if _, err := daemon.SdNotify(false, daemon.SdNotifyReady); err != nil {
			r.log.Warn("notify systemd", "err", err)
		}
	}()
	next, err := parse(r.args, os.Stderr)
	if err == nil {
		err = r.apply(next)
	}
	if err != nil {
		r.log.Error("reload configuration", "err", err)
	}
}

// monotonic is what systemd wants with RELOADING=1 of a service of type notify-reload.
func monotonic() string {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) != nil {
		return ""
	}
	return "MONOTONIC_USEC=" + strconv.FormatInt(t.Nano()/1000, 10)
}

// apply hands the new values out. What may be refused comes first, so that nothing
// is taken over in that case.
func (r *reloader) apply(next *config) error {
	level, err := next.level()
	if err != nil {
		return err
	}
	if err := r.remote.Configure(remote.Options{Mirrors: next.RegistryMirrors, Insecure: next.InsecureRegistries}); err != nil {
		return err
	}
	r.level.Set(level)
	r.images.SetLimits(next.MaxDownloads, next.MaxAttempts, next.MaxUploads)
	r.mu.Lock()
	merged, later := r.now.renewed(next)
	r.now = merged
	r.mu.Unlock()
	for _, key := range later {
		r.log.Warn(key + " has changed, which takes effect when the daemon is started again")
	}
	r.runtimes.Set(merged.Runtimes)
	r.containers.SetDefaults(merged.containerDefaults())
	r.system.Configure(merged.live())
	r.bus.Publish(events.DaemonEventType, events.ActionReload, r.id, merged.reloaded())
	r.log.Info("reloaded configuration", "debug", merged.Debug, "labels", merged.Labels)
	return nil
}

// renewed gives the configuration that holds after a reload: next's values of the keys
// that SIGHUP takes over, ours of all others. later are the keys of those that differ,
// in the table's order.
func (c *config) renewed(next *config) (merged *config, later []string) {
	result := *c
	from, to := reflect.ValueOf(next).Elem(), reflect.ValueOf(&result).Elem()
	for i := range options {
		o := &options[i]
		f, ok := fieldOf(o.key)
		switch {
		case !ok: // what has no effect has none after a start either
		case o.reload:
			to.FieldByIndex(f.Index).Set(from.FieldByIndex(f.Index))
		case !reflect.DeepEqual(to.FieldByIndex(f.Index).Interface(), from.FieldByIndex(f.Index).Interface()):
			later = append(later, o.key)
		}
	}
	return &result, later
}

// fieldOf finds the field of config that has a key of daemon.json.
func fieldOf(key string) (field reflect.StructField, ok bool) {
	for f := range reflect.TypeFor[config]().Fields() {
		if key != "" && f.Tag.Get("json") == key {
			return f, true
		}
	}
	return reflect.StructField{}, false
}

// live is what the daemon tells of itself and may change while it runs.
func (c *config) live() system.Live {
	return system.Live{Debug: c.Debug, LiveRestore: c.LiveRestore, Labels: c.Labels, Runtimes: c.Runtimes, DefaultRuntime: c.defaultRuntime(), CDI: c.deviceInterface()}
}

// reloaded are the attributes of Docker's event daemon/reload.
func (c *config) reloaded() map[string]string {
	list := func(l []string) string {
		if l == nil {
			return "[]"
		}
		b, err := json.Marshal(l)
		if err != nil {
			return "[]"
		}
		return string(b)
	}
	d := c.containerDefaults()
	return map[string]string{
		"debug": strconv.FormatBool(c.Debug), "live-restore": strconv.FormatBool(c.LiveRestore), "labels": list(c.Labels),
		"registry-mirrors": list(c.RegistryMirrors), "insecure-registries": list(c.InsecureRegistries),
		"max-concurrent-downloads": strconv.Itoa(c.MaxDownloads), "max-concurrent-uploads": strconv.Itoa(c.MaxUploads),
		"shutdown-timeout": strconv.Itoa(c.ShutdownTimeout), "default-stop-timeout": strconv.Itoa(c.StopTimeout),
		"default-shm-size": strconv.FormatInt(d.ShmSize, 10), "default-ipc-mode": string(d.IpcMode), "default-cgroupns-mode": string(d.CgroupnsMode),
		"max-download-attempts": strconv.Itoa(c.MaxAttempts), "runtimes": c.Runtimes.String(), "default-runtime": c.defaultRuntime(), "name": hostname(),
	}
}

func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return ""
	}
	return name
}

// containerDefaults are what containers have that ask for nothing else.
func (c *config) containerDefaults() container.Defaults {
	return container.Defaults{
		ShmSize: int64(c.ShmSize), IpcMode: containertypes.IpcMode(c.IpcMode), CgroupnsMode: containertypes.CgroupnsMode(c.CgroupnsMode),
		StopTimeout: &c.StopTimeout, Ulimits: c.Ulimits.sorted(),
		DNS: c.DNS, DNSOptions: c.DNSOptions, DNSSearch: c.DNSSearch,
		Runtimes: slices.Sorted(maps.Keys(c.Runtimes)), Runtime: c.defaultRuntime(), CDI: c.deviceInterface(),
	}
}
