package config

import (
	"maps"
	"slices"
	"strings"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ctypes "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"muelle/api"
)

// MergeImage fills what the configuration leaves open from the image, as Docker
// does: an own entrypoint drops the image's command.
func MergeImage(c *ctypes.Config, img *dockerspec.DockerOCIImageConfig) {
	if c.User == "" {
		c.User = img.User
	}
	mergePorts(c, img)
	c.Env = mergeEnv(c.Env, img.Env)
	c.Labels = MergeLabels(c.Labels, img.Labels)
	if len(c.Entrypoint) == 0 {
		if len(c.Cmd) == 0 {
			c.Cmd = slices.Clone(img.Cmd)
			//lint:ignore SA1019 deprecated for new images, part of the format of old ones
			c.ArgsEscaped = img.ArgsEscaped
		}
		if c.Entrypoint == nil {
			c.Entrypoint = slices.Clone(img.Entrypoint)
		}
	} else if len(c.Entrypoint) == 1 && c.Entrypoint[0] == "" {
		// The client's way to say "no entrypoint, whatever the image says".
		c.Entrypoint = nil
	}
	c.Healthcheck = mergeHealth(c.Healthcheck, img.Healthcheck)
	if c.WorkingDir == "" {
		c.WorkingDir = img.WorkingDir
	}
	if len(img.Volumes) > 0 {
		volumes := maps.Clone(img.Volumes)
		maps.Copy(volumes, c.Volumes)
		c.Volumes = volumes
	}
	if c.StopSignal == "" {
		c.StopSignal = img.StopSignal
	}
	if len(c.Shell) == 0 {
		c.Shell = img.Shell
	}
}

func mergePorts(c *ctypes.Config, img *dockerspec.DockerOCIImageConfig) {
	if len(img.ExposedPorts) == 0 {
		return
	}
	ports := network.PortSet{}
	for spec := range img.ExposedPorts {
		// The parser accepts a range, as EXPOSE 8000-8010 of older builders wrote it.
		if r, err := network.ParsePortRange(spec); err == nil {
			for p := range r.All() {
				ports[p] = struct{}{}
			}
		}
	}
	maps.Copy(ports, c.ExposedPorts)
	c.ExposedPorts = ports
}

func mergeEnv(own, image []string) []string {
	if len(own) == 0 {
		return slices.Clone(image)
	}
	set := make(map[string]bool, len(own))
	for _, kv := range own {
		key, _, _ := strings.Cut(kv, "=")
		set[key] = true
	}
	env := slices.Clone(own)
	for _, kv := range image {
		if key, _, _ := strings.Cut(kv, "="); !set[key] {
			env = append(env, kv)
		}
	}
	return env
}

// MergeLabels gives both, own ones winning.
func MergeLabels(own, image map[string]string) map[string]string {
	if len(image) == 0 {
		return own
	}
	labels := maps.Clone(image)
	maps.Copy(labels, own)
	return labels
}

// OfNoProject gives the labels of an image that its containers inherit: all but
// those by which Compose and Muelle find the containers of a project. With them
// an image could make its containers answer to a service's name and share its ports;
// images that Compose has built, or that were committed from its containers, have them.
func OfNoProject(labels map[string]string) map[string]string {
	out := make(map[string]string, len(labels))
	for name, value := range labels {
		if !strings.HasPrefix(name, api.LabelComposePrefix) && name != api.LabelComposeHealth && name != api.LabelDebug {
			out[name] = value
		}
	}
	return out
}

// mergeHealth inherits the test where there is none, and each timing that is zero.
func mergeHealth(own, image *ctypes.HealthConfig) *ctypes.HealthConfig {
	if image == nil {
		return own
	}
	if own == nil {
		h := *image
		return &h
	}
	h := *own
	if len(h.Test) == 0 {
		h.Test = image.Test
	}
	if h.Interval == 0 {
		h.Interval = image.Interval
	}
	if h.Timeout == 0 {
		h.Timeout = image.Timeout
	}
	if h.StartPeriod == 0 {
		h.StartPeriod = image.StartPeriod
	}
	if h.StartInterval == 0 {
		h.StartInterval = image.StartInterval
	}
	if h.Retries == 0 {
		h.Retries = image.Retries
	}
	return &h
}

// Command gives the program and its arguments: entrypoint, then command.
func Command(c *ctypes.Config) (path string, args []string) {
	all := append(slices.Clone(c.Entrypoint), c.Cmd...)
	if len(all) == 0 {
		return "", nil
	}
	return all[0], all[1:]
}
