// Package logopt reads a container's log driver and its options as Docker does, with
// Docker's texts, and turns them into what the shim needs to write and the daemon to
// read. It opens nothing but the name service.
package logopt

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/docker/go-units"
)

// Size and number of files. Unlike Docker's, logs rotate by default; local is as
// Docker has it, and so is the local copy of what goes elsewhere.
const (
	jsonSize     = 10 << 20
	localSize    = 20 << 20
	defaultFiles = 5
)

// common are the options that every driver has.
var common = []string{"mode", "max-buffer-size", "cache-disabled", "cache-max-size", "cache-max-file", "cache-compress"}

// attributes are those that say more about a container.
var attributes = []string{"labels", "labels-regex", "env", "env-regex", "tag"}

// options by driver.
var options = map[string][]string{
	"json-file": {"max-size", "max-file", "compress"},
	"local":     {"max-size", "max-file", "compress"},
	"syslog":    {"syslog-address", "syslog-facility", "syslog-format", "syslog-tls-ca-cert", "syslog-tls-cert", "syslog-tls-key", "syslog-tls-skip-verify"},
	"journald":  nil,
}

// elsewhere are Docker's drivers that Muelle does not have.
var elsewhere = []string{"awslogs", "etwlogs", "fluentd", "gcplogs", "gelf", "splunk"}

// Drivers are the names that Validate accepts, sorted.
func Drivers() []string {
	return slices.Sorted(maps.Keys(map[string]bool{"json-file": true, "local": true, "syslog": true, "journald": true, "none": true}))
}

func invalid(format string, args ...any) error {
	return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(format, args...))
}

// Validate checks a driver's name and options, also the daemon's own defaults.
func Validate(driver string, opts map[string]string) error {
	if driver == "none" {
		return nil
	}
	switch opts["mode"] {
	case "", "blocking", "non-blocking":
	default:
		return invalid("logger: logging mode not supported: %s", opts["mode"])
	}
	if size, ok := opts["max-buffer-size"]; ok {
		if opts["mode"] != "non-blocking" {
			return invalid("logger: max-buffer-size option is only supported with 'mode=non-blocking'")
		}
		if n, err := units.RAMInBytes(size); err != nil || n < 0 {
			return invalid("error parsing option max-buffer-size: invalid size: '%s'", size)
		}
	}
	if v := opts["cache-disabled"]; v != "" {
		if _, err := strconv.ParseBool(v); err != nil {
			return invalid("invalid value for option cache-disabled: %s", v)
		}
	}
	if slices.Contains(elsewhere, driver) {
		return errdefs.ErrNotImplemented.WithMessage(fmt.Sprintf("the log driver %s is not supported: Muelle has %s", driver, strings.Join(Drivers(), ", ")))
	}
	own, known := options[driver]
	if !known {
		return invalid("logger: no log driver named '%s' is registered", driver)
	}
	for _, key := range slices.Sorted(maps.Keys(opts)) {
		if slices.Contains(own, key) || slices.Contains(common, key) || slices.Contains(attributes, key) {
			continue
		}
		if driver == "local" {
			return invalid("unknown log opt '%s' for log driver local", key)
		}
		return invalid("unknown log opt '%s' for %s log driver", key, driver)
	}
	if _, err := rotation(driver, opts); err != nil {
		return err
	}
	if driver == "syslog" {
		_, err := parseSyslog(opts)
		return err
	}
	return nil
}

// files says how logs on disk rotate.
type files struct {
	size     int64 // 0: never
	count    int
	compress bool
}

// rotation reads the options of the file: of the log itself, or of the local copy.
func rotation(driver string, opts map[string]string) (files, error) {
	f, prefix := files{size: localSize, count: defaultFiles, compress: true}, ""
	switch driver {
	case "json-file":
		f.size = jsonSize
	case "local":
	default:
		prefix = "cache-"
	}
	if v, ok := opts[prefix+"max-size"]; ok {
		n, err := units.FromHumanSize(v)
		switch {
		case v == "-1" || v == "unlimited":
			n = 0
		case err != nil:
			return f, invalid("invalid value for %smax-size: %s: %s", prefix, v, err)
		case n <= 0:
			return f, invalid("%smax-size must be a positive number", prefix)
		}
		f.size = n
	}
	if v, ok := opts[prefix+"max-file"]; ok {
		n, err := strconv.Atoi(v)
		if err != nil {
			return f, invalid("invalid value for %smax-file: %s: %s", prefix, v, err)
		}
		if n < 1 {
			return f, invalid("%smax-file cannot be less than 1", prefix)
		}
		f.count = n
	}
	f.compress = f.count > 1 && f.size > 0
	if v, ok := opts[prefix+"compress"]; ok {
		b, err := strconv.ParseBool(v)
		if err != nil {
			return f, invalid("invalid boolean value for %scompress: %s", prefix, v)
		}
		if b && !f.compress {
			return f, invalid("%scompress cannot be true when max-file is less than 2 or max-size is not set", prefix)
		}
		f.compress = b
	}
	return f, nil
}

// Merge gives the driver and options of a container from what it asked for and the
// daemon's defaults, which count where the container has the same driver, or none;
// those of the local copy count for every driver.
func Merge(driver string, opts map[string]string, defaultDriver string, defaults map[string]string) (string, map[string]string) {
	defaultDriver = cmp.Or(defaultDriver, "json-file")
	if driver == "" || driver == "default" {
		driver = defaultDriver
	}
	merged := map[string]string{}
	for k, v := range defaults {
		if driver == defaultDriver || driver != "none" && strings.HasPrefix(k, "cache-") {
			merged[k] = v
		}
	}
	maps.Copy(merged, opts)
	return driver, merged
}
