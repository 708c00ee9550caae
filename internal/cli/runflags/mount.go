package runflags

import (
	"encoding/csv"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/mount"
)

type mounts struct{ values []mount.Mount }

func (*mounts) Type() string { return "mount" }

func (m *mounts) String() string {
	var out []string
	for _, v := range m.values {
		out = append(out, fmt.Sprintf("%s %s %s", v.Type, v.Source, v.Target))
	}
	return strings.Join(out, ", ")
}

func (m *mounts) Set(s string) error {
	v, err := Mount(s)
	if err != nil {
		return err
	}
	m.values = append(m.values, v)
	return nil
}

// Mount parses the value of --mount: fields of a CSV line.
func Mount(s string) (mount.Mount, error) {
	m := mount.Mount{Type: mount.TypeVolume}
	fields, err := csv.NewReader(strings.NewReader(s)).Read()
	if err != nil {
		return m, err
	}
	for _, f := range fields {
		k, v, ok := strings.Cut(f, "=")
		k = strings.ToLower(k)
		if !ok {
			switch k {
			case "readonly", "ro", "volume-nocopy", "bind-nonrecursive", "bind-create-src":
				v = "true"
			default:
				return m, fmt.Errorf("invalid field '%s' must be a key=value pair", f)
			}
		}
		if err := mountField(&m, k, v, f); err != nil {
			return m, err
		}
	}
	return m, checkMount(m)
}

func mountField(m *mount.Mount, k, v, field string) (err error) {
	switch k {
	case "type":
		m.Type = mount.Type(strings.ToLower(v))
	case "source", "src":
		m.Source = absoluteIfDotted(v)
	case "target", "dst", "destination":
		m.Target = v
	case "readonly", "ro":
		m.ReadOnly, err = boolean(k, v)
	case "consistency":
		m.Consistency = mount.Consistency(strings.ToLower(v))
	default:
		group, _, _ := strings.Cut(k, "-")
		switch group {
		case "bind":
			return bindField(m, k, v, field)
		case "volume":
			return volumeField(m, k, v, field)
		case "tmpfs":
			return tmpfsField(m, k, v, field)
		case "image":
			if k == "image-subpath" {
				m.ImageOptions = &mount.ImageOptions{Subpath: v}
				return nil
			}
		}
		return unexpected(k, field)
	}
	return err
}

func unexpected(k, field string) error {
	return fmt.Errorf("unexpected key '%s' in '%s'", k, field)
}

func boolean(k, v string) (bool, error) {
	b, err := strconv.ParseBool(v)
	if err != nil {
		return false, fmt.Errorf("invalid value for %s: %s", k, v)
	}
	return b, nil
}

func absoluteIfDotted(p string) string {
	if !filepath.IsAbs(p) && strings.HasPrefix(p, ".") {
		if abs, err := filepath.Abs(p); err == nil {
			return abs
		}
	}
	return p
}

func bindField(m *mount.Mount, k, v, field string) (err error) {
	if m.BindOptions == nil {
		m.BindOptions = &mount.BindOptions{}
	}
	b := m.BindOptions
	switch k {
	case "bind-propagation":
		b.Propagation = mount.Propagation(strings.ToLower(v))
	case "bind-nonrecursive":
		b.NonRecursive, err = boolean(k, v)
	case "bind-create-src":
		b.CreateMountpoint, err = boolean(k, v)
	case "bind-recursive":
		switch v {
		case "enabled":
		case "disabled":
			b.NonRecursive = true
		case "writable":
			b.ReadOnlyNonRecursive = true
		case "readonly":
			b.ReadOnlyForceRecursive = true
		default:
			return fmt.Errorf(`invalid value for %s: %s (must be "enabled", "disabled", "writable", or "readonly")`, k, v)
		}
	default:
		return unexpected(k, field)
	}
	return err
}

func volumeField(m *mount.Mount, k, v, field string) (err error) {
	if m.VolumeOptions == nil {
		m.VolumeOptions = &mount.VolumeOptions{Labels: map[string]string{}, DriverConfig: &mount.Driver{}}
	}
	o := m.VolumeOptions
	name, value, _ := strings.Cut(v, "=")
	switch k {
	case "volume-subpath":
		o.Subpath = v
	case "volume-nocopy":
		o.NoCopy, err = boolean(k, v)
	case "volume-label":
		if name != "" {
			o.Labels[name] = value
		}
	case "volume-driver":
		o.DriverConfig.Name = v
	case "volume-opt":
		if o.DriverConfig.Options == nil {
			o.DriverConfig.Options = map[string]string{}
		}
		if name != "" {
			o.DriverConfig.Options[name] = value
		}
	default:
		return unexpected(k, field)
	}
	return err
}

func tmpfsField(m *mount.Mount, k, v, field string) error {
	if m.TmpfsOptions == nil {
		m.TmpfsOptions = &mount.TmpfsOptions{}
	}
	switch k {
	case "tmpfs-size":
		n, err := units.RAMInBytes(v)
		if err != nil {
			return fmt.Errorf("invalid value for %s: %s", k, v)
		}
		m.TmpfsOptions.SizeBytes = n
	case "tmpfs-mode":
		n, err := strconv.ParseUint(v, 8, 32)
		if err != nil {
			return fmt.Errorf("invalid value for %s: %s", k, v)
		}
		m.TmpfsOptions.Mode = os.FileMode(n)
	default:
		return unexpected(k, field)
	}
	return nil
}

func checkMount(m mount.Mount) error {
	mixed := func(group string) error {
		return fmt.Errorf("cannot mix '%s-*' options with mount type '%s'", group, m.Type)
	}
	switch {
	case m.Type == "":
		return errors.New("type is required")
	case m.Target == "":
		return errors.New("target is required")
	case m.VolumeOptions != nil && m.Type != mount.TypeVolume:
		return mixed("volume")
	case m.ImageOptions != nil && m.Type != mount.TypeImage:
		return mixed("image")
	case m.BindOptions != nil && m.Type != mount.TypeBind:
		return mixed("bind")
	case m.TmpfsOptions != nil && m.Type != mount.TypeTmpfs:
		return mixed("tmpfs")
	case m.BindOptions == nil:
		return nil
	case m.BindOptions.ReadOnlyNonRecursive && !m.ReadOnly:
		return errors.New("option 'bind-recursive=writable' requires 'readonly' to be specified in conjunction")
	case m.BindOptions.ReadOnlyForceRecursive && !m.ReadOnly:
		return errors.New("option 'bind-recursive=readonly' requires 'readonly' to be specified in conjunction")
	case m.BindOptions.ReadOnlyForceRecursive && m.BindOptions.Propagation != mount.PropagationRPrivate:
		return errors.New("option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction")
	}
	return nil
}

// Volumes splits -v values into binds ([SOURCE:]TARGET[:OPTIONS] with a source) and
// anonymous volumes.
func Volumes(values []string) (binds []string, anonymous map[string]struct{}, err error) {
	anonymous = map[string]struct{}{}
	seen := map[string]bool{}
	for _, v := range values {
		if seen[v] {
			continue
		}
		seen[v] = true
		if v == "" {
			return nil, nil, errors.New("invalid empty volume spec")
		}
		parts := strings.Split(v, ":")
		if len(v) > 2 {
			for _, p := range parts {
				if p == "" {
					return nil, nil, fmt.Errorf("invalid spec: %s: empty section between colons", v)
				}
			}
			if len(parts) > 3 {
				return nil, nil, fmt.Errorf("invalid spec: %s: too many colons", v)
			}
		}
		if len(parts) == 1 || len(v) <= 2 {
			anonymous[v] = struct{}{}
			continue
		}
		parts[0] = absoluteIfDotted(parts[0])
		binds = append(binds, strings.Join(parts, ":"))
	}
	return binds, anonymous, nil
}
