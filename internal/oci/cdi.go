package oci

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"
	"tags.cncf.io/container-device-interface/pkg/cdi"
)

// gpuKind is what --gpus means where its specification is installed: nvidia-ctk
// writes it.
const gpuKind = "nvidia.com/gpu"

// CDI injects devices that vendors describe in files, by the Container Device
// Interface (tags.cncf.io/container-device-interface). The files are read when they are
// needed: containers that ask for no such device cost nothing.
type CDI struct {
	// Dirs hold the specifications, later ones before earlier ones; none means that
	// there is no CDI.
	Dirs []string
}

// Devices lists the names that are there, vendor.com/class=name.
func (c CDI) Devices() []string {
	cache, err := c.open()
	if err != nil || cache == nil {
		return nil
	}
	return cache.ListDevices()
}

func (c CDI) open() (*cdi.Cache, error) {
	if len(c.Dirs) == 0 {
		return nil, nil
	}
	return cdi.NewCache(cdi.WithSpecDirs(c.Dirs...), cdi.WithAutoRefresh(false))
}

// Inject adds what the requested devices need to the document: variables, device
// nodes and their rules, mounts, hooks. The texts are Docker's.
func (c CDI) Inject(s *specs.Spec, requests []container.DeviceRequest) error {
	if len(requests) == 0 {
		return nil
	}
	cache, err := c.open()
	if err != nil {
		return fmt.Errorf("read CDI specifications: %w", err)
	}
	var names []string
	for _, r := range requests {
		more, err := deviceNames(cache, r)
		if err != nil {
			return err
		}
		names = append(names, more...)
	}
	home := homeOf(s)
	if _, err := cache.InjectDevices(s, names...); err != nil {
		return invalid("CDI device injection failed: %v%s", err, c.trouble(cache))
	}
	limitHooks(s.Hooks)
	if home != "" {
		// Where the engine's own HOME stands, see homeOf.
		s.Process.Env = append(slices.DeleteFunc(s.Process.Env, func(kv string) bool { return kv == home }), home)
	}
	return nil
}

// hookPatience is how long a vendor's hook may take that names no limit, in seconds: one
// that hangs must not keep a start for ever.
const hookPatience = 120

func limitHooks(h *specs.Hooks) {
	if h == nil {
		return
	}
	//lint:ignore SA1019 Prestart is deprecated, and still used
	for _, all := range [][]specs.Hook{h.Prestart, h.CreateRuntime, h.CreateContainer, h.StartContainer, h.Poststart, h.Poststop} {
		for i := range all {
			if all[i].Timeout == nil {
				seconds := hookPatience
				all[i].Timeout = &seconds
			}
		}
	}
}

// deviceNames gives the CDI names that a request stands for.
func deviceNames(cache *cdi.Cache, r container.DeviceRequest) ([]string, error) {
	none := invalid("could not select device driver %q with capabilities: %v", r.Driver, r.Capabilities)
	if cache == nil {
		return nil, none
	}
	switch {
	case r.Driver == "cdi" && r.Count != 0:
		return nil, invalid("unexpected count in CDI device request")
	case r.Driver == "cdi" && len(r.Options) > 0:
		return nil, invalid("unexpected options in CDI device request")
	case r.Driver == "cdi":
		return r.DeviceIDs, nil
	case r.Driver != "" && r.Driver != "nvidia", !slices.ContainsFunc(r.Capabilities, func(all []string) bool { return slices.Contains(all, "gpu") }):
		return nil, none
	}
	var have []string
	for _, d := range cache.ListDevices() {
		if strings.HasPrefix(d, gpuKind+"=") {
			have = append(have, d)
		}
	}
	switch {
	case len(have) == 0:
		return nil, none
	case r.Count > 0 && len(r.DeviceIDs) > 0:
		return nil, invalid("cannot set both Count and DeviceIDs on device request")
	}
	ids := r.DeviceIDs
	if len(ids) == 0 && r.Count < 0 {
		ids = []string{"all"}
	}
	for n := range max(r.Count, 0) {
		ids = append(ids, strconv.Itoa(n))
	}
	var names []string
	for _, id := range ids {
		names = append(names, gpuKind+"="+strings.TrimPrefix(id, gpuKind+"="))
	}
	return names, nil
}

// trouble tells which specifications could not be read: the device may stand there.
func (c CDI) trouble(cache *cdi.Cache) string {
	var files []string
	for file, errs := range cache.GetErrors() {
		if len(errs) > 0 {
			files = append(files, fmt.Sprintf("%s: %v", file, errs[0]))
		}
	}
	if len(files) == 0 {
		return fmt.Sprintf(" (specifications are looked for in %s)", strings.Join(c.Dirs, ", "))
	}
	slices.Sort(files)
	return " (not readable: " + strings.Join(files, "; ") + ")"
}
