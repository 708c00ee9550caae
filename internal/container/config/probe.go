package config

import (
	"maps"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ctypes "github.com/moby/moby/api/types/container"

	"muelle/internal/probe"
)

// MergeProbe settles which health check a merged configuration has, a test or a
// probe by the engine, so that the record says one thing only: with a probe, the
// labels hold it and the test is empty; with a test, no label asks for a probe. What
// the container was given goes before what the image has. A health check that
// labels alone ask for gets their timings, where the configuration has none.
func MergeProbe(c, own *ctypes.Config, img *dockerspec.DockerOCIImageConfig) error {
	if err := probe.CheckLabels(own.Labels); err != nil {
		return invalid("%s", err)
	}
	asked := probe.HasTarget(own.Labels)
	tested := own.Healthcheck != nil && len(own.Healthcheck.Test) > 0
	switch {
	case asked && tested && own.Healthcheck.Test[0] == "NONE":
		return invalid("health check: both none and one by the engine are asked for")
	case asked && tested:
		return invalid("health check: both a command and one by the engine are asked for: there is one per container")
	case asked:
		// Not the image's beside it, which may be of another kind.
		c.Labels = without(c.Labels, own.Labels)
	case tested && probe.HasTarget(c.Labels):
		c.Labels = without(c.Labels, nil)
	}
	s, err := probe.FromLabels(c.Labels)
	if err != nil {
		return invalid("%s", err)
	}
	if s.Probe != nil {
		h := ctypes.HealthConfig{}
		if own.Healthcheck != nil {
			h = *own.Healthcheck
		}
		h.Test = nil
		c.Healthcheck = &h
	}
	if h := c.Healthcheck; h != nil {
		merged := *h
		timings := own.Healthcheck
		if timings == nil {
			timings = &ctypes.HealthConfig{}
		}
		// Own flags, then labels, then the image's test.
		set(&merged.Interval, s.Interval)
		set(&merged.Timeout, s.Timeout)
		set(&merged.StartPeriod, s.StartPeriod)
		set(&merged.StartInterval, s.StartInterval)
		set(&merged.Retries, s.Retries)
		set(&merged.Interval, timings.Interval)
		set(&merged.Timeout, timings.Timeout)
		set(&merged.StartPeriod, timings.StartPeriod)
		set(&merged.StartInterval, timings.StartInterval)
		set(&merged.Retries, timings.Retries)
		if s.Probe != nil && img.Healthcheck != nil {
			// The timings of an image's own test hold for the probe in its place.
			fill(&merged.Interval, img.Healthcheck.Interval)
			fill(&merged.Timeout, img.Healthcheck.Timeout)
			fill(&merged.StartPeriod, img.Healthcheck.StartPeriod)
			fill(&merged.StartInterval, img.Healthcheck.StartInterval)
			fill(&merged.Retries, img.Healthcheck.Retries)
		}
		c.Healthcheck = &merged
	}
	return nil
}

// without drops the labels that ask for a probe, except those of keep.
func without(labels, keep map[string]string) map[string]string {
	out := maps.Clone(labels)
	for name := range probe.Targets {
		if _, ok := keep[name]; !ok {
			delete(out, name)
		}
	}
	return out
}

func fill[T comparable](to *T, v T) {
	var zero T
	if *to == zero {
		*to = v
	}
}
