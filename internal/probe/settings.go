package probe

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"muelle/api"
)

// OnFailure is what happens once a container becomes unhealthy.
type OnFailure string

// What can happen. The words are Podman's.
const (
	Nothing OnFailure = "none"
	Kill    OnFailure = "kill"
	Restart OnFailure = "restart"
	Stop    OnFailure = "stop"
)

// ParseOnFailure reads one of them; empty means none.
func ParseOnFailure(s string) (OnFailure, error) {
	switch o := OnFailure(s); o {
	case "":
		return Nothing, nil
	case Nothing, Kill, Restart, Stop:
		return o, nil
	}
	return "", fmt.Errorf("invalid health check action %q: must be one of none, kill, restart, stop", s)
}

// Settings are everything that labels below io.muelle.health. say. Durations and
// retries are zero where they say nothing.
type Settings struct {
	Probe                                         *Config
	Interval, Timeout, StartPeriod, StartInterval time.Duration
	Retries                                       int
	OnFailure                                     OnFailure
}

// Targets are the labels that hold a probe.
var Targets = map[string]Kind{api.LabelHealthHTTP: HTTP, api.LabelHealthTCP: TCP, api.LabelHealthGRPC: GRPC}

// HasTarget says whether labels ask for a probe.
func HasTarget(labels map[string]string) bool {
	for name := range Targets {
		if _, ok := labels[name]; ok {
			return true
		}
	}
	return false
}

// minDuration is Docker's for health checks.
const minDuration = time.Millisecond

// CheckLabels reads labels that a user gave. An unknown one below the prefix is an
// error: a misspelt health check must not pass for none.
func CheckLabels(labels map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		if strings.HasPrefix(name, api.LabelHealthPrefix) && !slices.Contains(known, name) {
			return fmt.Errorf("label %s: unknown label of a health check", name)
		}
	}
	_, err := FromLabels(labels)
	return err
}

var known = []string{
	api.LabelHealthHTTP, api.LabelHealthTCP, api.LabelHealthGRPC, api.LabelHealthInterval, api.LabelHealthTimeout,
	api.LabelHealthRetries, api.LabelHealthStartPeriod, api.LabelHealthStartInterval, api.LabelHealthOnFailure,
}

// FromLabels reads labels. Unknown ones are passed over: an image may be made for a
// later version.
func FromLabels(labels map[string]string) (Settings, error) {
	s := Settings{OnFailure: Nothing}
	if len(labels) == 0 {
		return s, nil
	}
	durations := map[string]*time.Duration{
		api.LabelHealthInterval: &s.Interval, api.LabelHealthTimeout: &s.Timeout,
		api.LabelHealthStartPeriod: &s.StartPeriod, api.LabelHealthStartInterval: &s.StartInterval,
	}
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		if !strings.HasPrefix(name, api.LabelHealthPrefix) {
			continue
		}
		value := labels[name]
		var err error
		switch kind, target := Targets[name]; {
		case target && s.Probe != nil:
			err = fmt.Errorf("another label asks for a %s health check: there is one per container", s.Probe.Kind)
		case target:
			s.Probe, err = Parse(kind, value)
		case durations[name] != nil:
			var d time.Duration
			if d, err = time.ParseDuration(value); err == nil && d != 0 && d < minDuration {
				err = fmt.Errorf("%s is less than %s", value, minDuration)
			}
			*durations[name] = d
		case name == api.LabelHealthRetries:
			if s.Retries, err = strconv.Atoi(value); err != nil || s.Retries < 0 {
				err = fmt.Errorf("%q is not a number of retries", value)
			}
		case name == api.LabelHealthOnFailure:
			s.OnFailure, err = ParseOnFailure(value)
		}
		if err != nil {
			return s, fmt.Errorf("label %s: %w", name, err)
		}
	}
	return s, nil
}
