package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
)

// changeHealthcheck reads HEALTHCHECK NONE, or its options and CMD with a command.
func changeHealthcheck(c *dockerspec.DockerOCIImageConfig, s string) error {
	h := &dockerspec.HealthcheckConfig{}
	for strings.HasPrefix(s, "--") {
		var option string
		option, s, _ = strings.Cut(s, " ")
		s = strings.TrimSpace(s)
		if err := healthOption(h, option); err != nil {
			return err
		}
	}
	kind, rest, _ := strings.Cut(s, " ")
	rest = strings.TrimSpace(rest)
	switch strings.ToUpper(kind) {
	case "NONE":
		if rest != "" {
			return errors.New("HEALTHCHECK NONE takes no arguments")
		}
		h = &dockerspec.HealthcheckConfig{Test: []string{"NONE"}}
	case "CMD":
		if rest == "" {
			return errors.New("missing command after HEALTHCHECK CMD")
		}
		var words []string
		if json.Unmarshal([]byte(rest), &words) != nil {
			words = nil
		}
		if h.Test = append([]string{"CMD"}, words...); len(words) == 0 {
			h.Test = []string{"CMD-SHELL", rest}
		}
	default:
		return fmt.Errorf("unknown type %q in HEALTHCHECK (try CMD)", kind)
	}
	c.Healthcheck = h
	return nil
}

func healthOption(h *dockerspec.HealthcheckConfig, option string) error {
	name, value, ok := strings.Cut(option, "=")
	if !ok {
		return fmt.Errorf("missing a value on flag: %s", option)
	}
	if name == "--retries" {
		n, err := strconv.Atoi(value)
		if err != nil {
			return err
		}
		if n < 0 {
			return fmt.Errorf("--retries cannot be negative (%d)", n)
		}
		h.Retries = n
		return nil
	}
	to, ok := map[string]*time.Duration{
		"--interval": &h.Interval, "--timeout": &h.Timeout, "--start-period": &h.StartPeriod, "--start-interval": &h.StartInterval,
	}[name]
	if !ok {
		return fmt.Errorf("unknown flag: %s", name)
	}
	d, err := time.ParseDuration(value)
	if err != nil {
		return err
	}
	if d != 0 && d < time.Millisecond {
		return fmt.Errorf("%s cannot be less than 1ms", name)
	}
	*to = d
	return nil
}
