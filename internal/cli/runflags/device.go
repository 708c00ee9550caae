package runflags

import (
	"encoding/csv"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/blkiodev"
	"github.com/moby/moby/api/types/container"
)

// Devices parses --device: HOST[:CONTAINER][:MODE], or names of the Container
// Device Interface (vendor/class=name).
func Devices(values []string) (maps []container.DeviceMapping, cdi []string, err error) {
	maps = []container.DeviceMapping{}
	for _, v := range values {
		if kind, name, ok := strings.Cut(v, "="); ok && name != "" && strings.Count(kind, "/") == 1 && kind[0] != '/' {
			cdi = append(cdi, v)
			continue
		}
		m, err := device(v)
		if err != nil {
			return nil, nil, err
		}
		maps = append(maps, m)
	}
	return maps, cdi, nil
}

func device(v string) (container.DeviceMapping, error) {
	var m container.DeviceMapping
	parts := strings.Split(v, ":")
	if len(parts) > 3 || parts[0] == "" {
		return m, fmt.Errorf("bad format for path: %s", v)
	}
	m = container.DeviceMapping{PathOnHost: parts[0], PathInContainer: parts[0], CgroupPermissions: "rwm"}
	switch {
	case len(parts) == 1:
		m.PathOnHost = path.Clean(parts[0])
		m.PathInContainer = m.PathOnHost
	case len(parts) == 2 && validDeviceMode(parts[1]):
		m.PathOnHost = path.Clean(parts[0])
		m.PathInContainer, m.CgroupPermissions = m.PathOnHost, parts[1]
	case len(parts) == 2:
		m.PathInContainer = path.Clean(parts[1])
	default:
		if !validDeviceMode(parts[2]) {
			return m, fmt.Errorf("bad mode specified: %s", parts[2])
		}
		m.PathInContainer, m.CgroupPermissions = parts[1], parts[2]
	}
	return m, absolute(m.PathInContainer)
}

type weightDevices struct{ values []*blkiodev.WeightDevice }

func (*weightDevices) Type() string { return "list" }

func (w *weightDevices) String() string { return fmt.Sprint(w.values) }

func (w *weightDevices) Set(s string) error {
	dev, v, err := devicePair(s)
	if err != nil {
		return err
	}
	n, err := strconv.ParseUint(v, 10, 16)
	if err != nil || n > 0 && (n < 10 || n > 1000) {
		return fmt.Errorf("invalid weight for device: %s", s)
	}
	w.values = append(w.values, &blkiodev.WeightDevice{Path: dev, Weight: uint16(n)})
	return nil
}

// Throttles is a flag DEVICE:RATE that may be repeated.
type Throttles struct {
	values []*blkiodev.ThrottleDevice
	// PerSecond: the rate counts operations, without a unit.
	PerSecond bool
}

// Type is part of pflag.Value, as String and Set.
func (*Throttles) Type() string { return "list" }

// String shows what was given.
func (t *Throttles) String() string { return fmt.Sprint(t.values) }

// Set adds one limit.
func (t *Throttles) Set(s string) error {
	dev, v, err := devicePair(s)
	if err != nil {
		return err
	}
	var rate uint64
	if t.PerSecond {
		if rate, err = strconv.ParseUint(v, 10, 64); err != nil {
			return fmt.Errorf("invalid rate for device: %s. The correct format is <device-path>:<number>. Number must be a positive integer", s)
		}
	} else {
		n, err := units.RAMInBytes(v)
		if err != nil || n < 0 {
			return fmt.Errorf("invalid rate for device: %s. The correct format is <device-path>:<number>[<unit>]. Number must be a positive integer. Unit is optional and can be kb, mb, or gb", s)
		}
		rate = uint64(n)
	}
	t.values = append(t.values, &blkiodev.ThrottleDevice{Path: dev, Rate: rate})
	return nil
}

// List gives the limits; none is an empty list.
func (t *Throttles) List() []*blkiodev.ThrottleDevice {
	return append([]*blkiodev.ThrottleDevice{}, t.values...)
}

func devicePair(s string) (dev, value string, err error) {
	dev, value, ok := strings.Cut(s, ":")
	if !ok || dev == "" {
		return "", "", fmt.Errorf("bad format: %s", s)
	}
	if !strings.HasPrefix(dev, "/dev/") {
		return "", "", fmt.Errorf("bad format for device path: %s", s)
	}
	return dev, value, nil
}

type gpus struct{ values []container.DeviceRequest }

func (*gpus) Type() string { return "gpu-request" }

func (g *gpus) String() string {
	var out []string
	for _, v := range g.values {
		out = append(out, fmt.Sprint(v))
	}
	return strings.Join(out, ", ")
}

func (g *gpus) Set(s string) error {
	fields, err := csv.NewReader(strings.NewReader(s)).Read()
	if err != nil {
		return err
	}
	r := container.DeviceRequest{Options: map[string]string{}, Capabilities: [][]string{{"gpu"}}}
	seen := map[string]bool{}
	for _, f := range fields {
		k, v, ok := strings.Cut(f, "=")
		if seen[k] {
			return fmt.Errorf("gpu request key '%s' can be specified only once", k)
		}
		seen[k] = true
		if !ok {
			k, v, seen["count"] = "count", k, true
		}
		switch k {
		case "driver":
			r.Driver = v
		case "count":
			if r.Count, err = gpuCount(v); err != nil {
				return err
			}
		case "device":
			r.DeviceIDs = strings.Split(v, ",")
		case "capabilities":
			r.Capabilities = [][]string{append(strings.Split(v, ","), "gpu")}
		case "options":
			pairs, err := csv.NewReader(strings.NewReader(v)).Read()
			if err != nil {
				return fmt.Errorf("failed to read gpu options: %w", err)
			}
			r.Options = Pairs(pairs)
		default:
			return fmt.Errorf("unexpected key '%s' in '%s'", k, f)
		}
	}
	if !seen["count"] && r.DeviceIDs == nil {
		r.Count = 1
	}
	g.values = append(g.values, r)
	return nil
}

func gpuCount(s string) (int, error) {
	if s == "all" {
		return -1, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, fmt.Errorf(`invalid count (%s): value must be either "all" or an integer: %w`, s, errors.Unwrap(err))
	}
	return n, nil
}
