package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/google/shlex"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/network"
)

// ApplyChanges applies Dockerfile instructions that only change the configuration, as
// `import -c` and `commit -c` take them.
func ApplyChanges(config *dockerspec.DockerOCIImageConfig, changes []string) error {
	for _, change := range changes {
		change = strings.TrimSpace(change)
		if change == "" {
			continue
		}
		word, rest, _ := strings.Cut(change, " ")
		rest = strings.TrimSpace(rest)
		apply, ok := instructions[strings.ToUpper(word)]
		if !ok {
			return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("%s is not a valid change command", strings.ToLower(word)))
		}
		if rest == "" {
			return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("%s requires an argument", strings.ToUpper(word)))
		}
		if err := apply(config, rest); err != nil {
			return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid change %q: %v", change, err))
		}
	}
	return nil
}

var instructions = map[string]func(*dockerspec.DockerOCIImageConfig, string) error{
	"CMD":        func(c *dockerspec.DockerOCIImageConfig, s string) error { c.Cmd = command(c, s); return nil },
	"ENTRYPOINT": func(c *dockerspec.DockerOCIImageConfig, s string) error { c.Entrypoint = command(c, s); return nil },
	"USER":       func(c *dockerspec.DockerOCIImageConfig, s string) error { c.User = s; return nil },
	"WORKDIR":    changeWorkdir,
	"STOPSIGNAL": func(c *dockerspec.DockerOCIImageConfig, s string) error { c.StopSignal = s; return nil },
	"ONBUILD":    changeOnBuild,
	"ENV":        changeEnv,
	"LABEL":      changeLabel,
	"EXPOSE":     changeExpose,
	"VOLUME":     changeVolume,

	"HEALTHCHECK": changeHealthcheck,
}

// command reads the JSON form, or gives the other one to the configuration's shell.
func command(c *dockerspec.DockerOCIImageConfig, s string) []string {
	var words []string
	if json.Unmarshal([]byte(s), &words) == nil {
		return words
	}
	if len(c.Shell) > 0 {
		return append(slices.Clone(c.Shell), s)
	}
	return []string{"/bin/sh", "-c", s}
}

// changeOnBuild takes what Docker's builder takes for an image that is built on this one.
func changeOnBuild(c *dockerspec.DockerOCIImageConfig, s string) error {
	word, _, _ := strings.Cut(s, " ")
	switch word = strings.ToUpper(word); word {
	case "ONBUILD":
		return errors.New("chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
	case "FROM", "MAINTAINER":
		return fmt.Errorf("%s isn't allowed as an ONBUILD trigger", word)
	}
	c.OnBuild = append(slices.Clone(c.OnBuild), s)
	return nil
}

func changeWorkdir(c *dockerspec.DockerOCIImageConfig, s string) error {
	switch {
	case strings.HasPrefix(s, "/"), c.WorkingDir == "":
		c.WorkingDir = "/" + strings.TrimPrefix(s, "/")
	default:
		c.WorkingDir = strings.TrimSuffix(c.WorkingDir, "/") + "/" + s
	}
	return nil
}

func changeEnv(c *dockerspec.DockerOCIImageConfig, s string) error {
	pairs, err := pairsOf(s)
	if err != nil {
		return err
	}
	for _, pair := range pairs {
		c.Env = slices.DeleteFunc(c.Env, func(have string) bool { return strings.HasPrefix(have, pair[0]+"=") })
		c.Env = append(c.Env, pair[0]+"="+pair[1])
	}
	return nil
}

func changeLabel(c *dockerspec.DockerOCIImageConfig, s string) error {
	pairs, err := pairsOf(s)
	if err != nil {
		return err
	}
	c.Labels = maps.Clone(c.Labels)
	if c.Labels == nil {
		c.Labels = map[string]string{}
	}
	for _, pair := range pairs {
		c.Labels[pair[0]] = pair[1]
	}
	return nil
}

// pairsOf reads KEY=value … with quotes, or the old form KEY rest of the line.
func pairsOf(s string) ([][2]string, error) {
	first, rest, _ := strings.Cut(s, " ")
	if !strings.Contains(first, "=") {
		if rest == "" {
			return nil, fmt.Errorf("want KEY=value")
		}
		return [][2]string{{first, strings.TrimSpace(rest)}}, nil
	}
	words, err := shlex.Split(s)
	if err != nil {
		return nil, err
	}
	var pairs [][2]string
	for _, word := range words {
		key, value, ok := strings.Cut(word, "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("%q: want KEY=value", word)
		}
		pairs = append(pairs, [2]string{key, value})
	}
	return pairs, nil
}

func changeExpose(c *dockerspec.DockerOCIImageConfig, s string) error {
	c.ExposedPorts = maps.Clone(c.ExposedPorts)
	if c.ExposedPorts == nil {
		c.ExposedPorts = map[string]struct{}{}
	}
	for _, field := range strings.Fields(s) {
		ports, err := network.ParsePortRange(field)
		if err != nil {
			return fmt.Errorf("invalid port %q: %w", field, err)
		}
		for port := range ports.All() {
			c.ExposedPorts[port.String()] = struct{}{}
		}
	}
	return nil
}

func changeVolume(c *dockerspec.DockerOCIImageConfig, s string) error {
	var paths []string
	if json.Unmarshal([]byte(s), &paths) != nil {
		paths = strings.Fields(s)
	}
	c.Volumes = maps.Clone(c.Volumes)
	if c.Volumes == nil {
		c.Volumes = map[string]struct{}{}
	}
	for _, path := range paths {
		c.Volumes[path] = struct{}{}
	}
	return nil
}
