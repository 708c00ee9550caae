package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"muelle/internal/oci"
)

// specDirs are where CDI specifications are by convention, later ones first.
var specDirs = []string{"/etc/cdi", "/var/run/cdi"}

// deviceInterface is where vendors describe devices, unless the feature cdi is off.
func (c *config) deviceInterface() oci.CDI {
	if on, given := c.Features["cdi"]; given && !on {
		return oci.CDI{}
	}
	dirs := c.CDISpecDirs
	if len(dirs) == 0 {
		dirs = specDirs
	}
	return oci.CDI{Dirs: dirs}
}

// features takes NAME or NAME=BOOL.
func features(c *config, _ *option) pflag.Value {
	return &bound{set: func(s string) error {
		name, value, given := strings.Cut(s, "=")
		on := true
		if given {
			var err error
			if on, err = strconv.ParseBool(value); err != nil {
				return fmt.Errorf("feature %s: %q is neither true nor false", name, value)
			}
		}
		if c.Features == nil {
			c.Features = map[string]bool{}
		}
		c.Features[name] = on
		return nil
	}, show: func() string { return fmt.Sprint(c.Features) }, kind: "map"}
}
