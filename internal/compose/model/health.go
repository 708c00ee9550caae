package model

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"muelle/api"
	"muelle/internal/probe"
)

// healthExtension is the attribute of a service that asks for a health check by the
// engine:
//
//	x-health:
//	  http: ":8080/healthz"     # or tcp: 5432, grpc: 50051/service; see probe.Parse
//	  interval: 5s              # timeout, retries, start_period, start_interval
//	  on_failure: restart       # none, kill, restart, stop
//
// Each of http, tcp and grpc may be a map instead: {port, address, tls}, with path,
// status, body, match, headers, host for http, and service for grpc.
const healthExtension = "x-health"

// healthLabels translates x-health into labels of the container. The digest of them
// is a label too: Docker Compose's hash of a service does not cover extensions.
func healthLabels(s types.ServiceConfig) (map[string]string, error) {
	raw, ok := s.Extensions[healthExtension]
	if !ok || raw == nil {
		return nil, nil
	}
	m, ok := raw.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("%s must be a mapping", healthExtension)
	}
	labels := map[string]string{}
	for _, key := range sortedKeys(m) {
		value, err := healthValue(key, m[key])
		if err != nil {
			return nil, fmt.Errorf("%s.%s: %w", healthExtension, key, err)
		}
		labels[api.LabelHealthPrefix+strings.ReplaceAll(key, "_", "-")] = value
	}
	if err := probe.CheckLabels(labels); err != nil {
		return nil, fmt.Errorf("%s: %w", healthExtension, err)
	}
	if h := s.HealthCheck; h != nil && probe.HasTarget(labels) && (h.Disable || len(h.Test) > 0) {
		return nil, fmt.Errorf("%s asks for a health check by the engine, and healthcheck for another or none: there is one per service", healthExtension)
	}
	hash, err := sumJSON(labels)
	if err != nil {
		return nil, err
	}
	labels[api.LabelComposeHealth] = hash
	return labels, nil
}

var healthKeys = strings.Fields("http tcp grpc interval timeout retries start_period start_interval on_failure")

func healthValue(key string, v any) (string, error) {
	if !slices.Contains(healthKeys, key) {
		return "", fmt.Errorf("unknown attribute (there are %s)", strings.Join(healthKeys, ", "))
	}
	switch v := v.(type) {
	case map[string]any:
		if _, ok := probe.Targets[api.LabelHealthPrefix+key]; ok {
			return healthTarget(probe.Kind(key), v)
		}
	case string:
		return v, nil
	case int, int64, uint64:
		return fmt.Sprint(v), nil
	}
	return "", errors.New("must be a string")
}

// healthTarget writes the long form as the short one.
func healthTarget(kind probe.Kind, m map[string]any) (string, error) {
	m = maps.Clone(m)
	take := func(key string) string {
		v, ok := m[key]
		delete(m, key)
		if !ok || v == nil {
			return ""
		}
		return fmt.Sprint(v)
	}
	address, port := take("address"), take("port")
	if strings.Contains(address, ":") {
		address = "[" + address + "]"
	}
	if port == "" && kind != probe.HTTP {
		return "", errors.New("a port is needed")
	}
	at := address + ":" + port
	var options [][2]string
	switch kind {
	case probe.HTTP:
		if at = strings.TrimSuffix(at, ":"); take("tls") == "true" {
			at = "https://" + at
		} else {
			at = "http://" + at
		}
		at += "/" + strings.TrimPrefix(cmp.Or(take("path"), "/"), "/")
		var err error
		if options, err = httpOptions(m, take); err != nil {
			return "", err
		}
	case probe.GRPC:
		if service := take("service"); service != "" {
			at += "/" + service
		}
		if take("tls") == "true" {
			options = append(options, [2]string{"tls", "true"})
		}
	}
	for _, rest := range sortedKeys(m) {
		return "", fmt.Errorf("unknown attribute %s", rest)
	}
	return probe.Join(at, options), nil
}

func httpOptions(m map[string]any, take func(string) string) (options [][2]string, err error) {
	list := []any{m["status"]}
	if several, ok := m["status"].([]any); ok {
		list = several
	}
	delete(m, "status")
	for _, s := range list {
		if s != nil {
			options = append(options, [2]string{"status", fmt.Sprint(s)})
		}
	}
	for _, key := range []string{"body", "match", "host"} {
		if v := take(key); v != "" {
			options = append(options, [2]string{key, v})
		}
	}
	if headers, ok := m["headers"]; ok && headers != nil {
		h, ok := headers.(map[string]any)
		if !ok {
			return nil, errors.New("headers must be a mapping")
		}
		for _, name := range sortedKeys(h) {
			options = append(options, [2]string{"header", name + ": " + fmt.Sprint(h[name])})
		}
	}
	delete(m, "headers")
	return options, nil
}

// checkHealth says what is wrong with the services' x-health.
func checkHealth(p *types.Project) error {
	for _, name := range p.ServiceNames() {
		if _, err := healthLabels(p.Services[name]); err != nil {
			return fmt.Errorf("service %q: %w", name, err)
		}
	}
	return nil
}

// withHealth adds the labels of x-health to a service's own.
func withHealth(s types.ServiceConfig) (map[string]string, error) {
	health, err := healthLabels(s)
	if err != nil || len(health) == 0 {
		return s.Labels, err
	}
	all := map[string]string{}
	maps.Copy(all, s.Labels)
	maps.Copy(all, health)
	return all, nil
}
