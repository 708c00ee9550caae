package container

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	ctypes "github.com/moby/moby/api/types/container"

	"muelle/internal/logdriver"
)

const (
	defaultLogSize  = 10 << 20
	defaultLogFiles = 5
)

// logConfig reads the log driver and its options. Unlike Docker's, logs rotate
// by default.
func logConfig(hc *ctypes.HostConfig, c *entry, cfg *ctypes.Config) (logdriver.Config, error) {
	l := logdriver.Config{Type: hc.LogConfig.Type, MaxSize: defaultLogSize, MaxFile: defaultLogFiles, Compress: true}
	switch l.Type {
	case "none":
		return l, nil
	case "json-file", "local":
	default:
		return l, unsupported("the log driver " + l.Type)
	}
	l.Path = filepath.Join(c.dir, c.id+"-json.log")
	attrs := map[string]string{}
	for key, value := range hc.LogConfig.Config {
		switch key {
		case "max-size":
			size, err := units.RAMInBytes(value)
			if value == "-1" || value == "unlimited" {
				size, err = 0, nil
			}
			if err != nil || size < 0 {
				return l, invalid("invalid value for max-size: %s", value)
			}
			l.MaxSize = size
		case "max-file":
			n, err := strconv.Atoi(value)
			if err != nil || n < 1 {
				return l, invalid("max-file cannot be less than 1")
			}
			l.MaxFile = n
		case "compress":
			b, err := strconv.ParseBool(value)
			if err != nil {
				return l, invalid("invalid value for compress: %s", value)
			}
			l.Compress = b
		case "labels":
			for _, k := range strings.Split(value, ",") {
				if v, ok := cfg.Labels[strings.TrimSpace(k)]; ok {
					attrs[strings.TrimSpace(k)] = v
				}
			}
		case "env":
			for _, k := range strings.Split(value, ",") {
				k = strings.TrimSpace(k) + "="
				if i := slices.IndexFunc(cfg.Env, func(kv string) bool { return strings.HasPrefix(kv, k) }); i >= 0 {
					attrs[strings.TrimSuffix(k, "=")] = strings.TrimPrefix(cfg.Env[i], k)
				}
			}
		case "mode", "max-buffer-size":
			if key == "mode" && value != "blocking" {
				return l, unsupported("the log mode " + value)
			}
			if key == "max-buffer-size" {
				return l, invalid("logger: max-buffer-size option is only supported with 'mode=non-blocking'")
			}
		default:
			return l, invalid("unknown log opt '%s' for %s log driver", key, l.Type)
		}
	}
	if len(attrs) > 0 {
		extra, err := json.Marshal(attrs)
		if err != nil {
			return l, err
		}
		l.Extra = string(extra)
	}
	return l, nil
}
