package model

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/moby/moby/api/types/mount"
)

// volumes are a service's mounts: in the short form of HostConfig.Binds where that
// can say it, because it makes missing host directories, else as mounts. Secrets
// and configs that are files are read-only binds.
func volumes(p *types.Project, s types.ServiceConfig, warn func(string)) (binds []string, mounts []mount.Mount, err error) {
	seen := map[string]bool{}
	add := func(v types.ServiceVolumeConfig) error {
		if seen[v.Target] {
			return nil
		}
		seen[v.Target] = true
		m, err := serviceMount(p, v)
		if err != nil {
			return err
		}
		if bind, ok := bindString(p, v, m); ok {
			binds = append(binds, bind)
		} else {
			mounts = append(mounts, m)
		}
		return nil
	}
	for _, v := range s.Volumes {
		if err := add(v); err != nil {
			return nil, nil, err
		}
	}
	files, err := fileMounts(p, s, warn)
	if err != nil {
		return nil, nil, err
	}
	for _, v := range files {
		if err := add(v); err != nil {
			return nil, nil, err
		}
	}
	return binds, mounts, nil
}

func serviceMount(p *types.Project, v types.ServiceVolumeConfig) (mount.Mount, error) {
	m := mount.Mount{
		Type: mount.Type(v.Type), Source: v.Source, Target: v.Target, ReadOnly: v.ReadOnly,
		Consistency: mount.Consistency(v.Consistency),
	}
	switch v.Type {
	case types.VolumeTypeBind:
		if !filepath.IsAbs(v.Source) {
			abs, err := filepath.Abs(v.Source)
			if err != nil {
				return m, err
			}
			m.Source = abs
		}
		m.BindOptions = bindOptions(v.Bind)
	case types.VolumeTypeVolume:
		if def, ok := p.Volumes[v.Source]; ok && v.Source != "" {
			m.Source = def.Name
		}
		if v.Volume != nil {
			m.VolumeOptions = &mount.VolumeOptions{NoCopy: v.Volume.NoCopy, Subpath: v.Volume.Subpath, Labels: v.Volume.Labels}
		}
	case types.VolumeTypeTmpfs:
		if v.Tmpfs != nil {
			m.TmpfsOptions = &mount.TmpfsOptions{SizeBytes: int64(v.Tmpfs.Size), Mode: os.FileMode(v.Tmpfs.Mode)}
		}
	case types.VolumeTypeImage:
		if v.Image != nil {
			m.ImageOptions = &mount.ImageOptions{Subpath: v.Image.SubPath}
		}
	}
	return m, nil
}

func bindOptions(b *types.ServiceVolumeBind) *mount.BindOptions {
	if b == nil {
		return nil
	}
	o := &mount.BindOptions{Propagation: mount.Propagation(b.Propagation), CreateMountpoint: bool(b.CreateHostPath)}
	switch b.Recursive {
	case "disabled":
		o.NonRecursive = true
	case "writable":
		o.ReadOnlyNonRecursive = true
	case "readonly":
		o.ReadOnlyForceRecursive = true
	}
	return o
}

// bindString is the short form, where it says everything.
func bindString(p *types.Project, v types.ServiceVolumeConfig, m mount.Mount) (string, bool) {
	switch v.Type {
	case types.VolumeTypeBind:
		if v.Bind != nil && (!bool(v.Bind.CreateHostPath) || v.Bind.Propagation != "" || v.Bind.Recursive != "") {
			return "", false
		}
	case types.VolumeTypeVolume:
		if _, ok := p.Volumes[v.Source]; !ok {
			return "", false
		}
		if v.Volume != nil && (len(v.Volume.Labels) > 0 || v.Volume.Subpath != "" || v.Volume.NoCopy) {
			return "", false
		}
	default:
		return "", false
	}
	options := []string{"rw"}
	if v.ReadOnly {
		options[0] = "ro"
	}
	if v.Bind != nil && v.Bind.SELinux != "" {
		options = append(options, v.Bind.SELinux)
	}
	return m.Source + ":" + v.Target + ":" + strings.Join(options, ","), true
}

// fileMounts are the secrets and configs of a service.
func fileMounts(p *types.Project, s types.ServiceConfig, warn func(string)) ([]types.ServiceVolumeConfig, error) {
	var out []types.ServiceVolumeConfig
	for _, ref := range s.Secrets {
		def := p.Secrets[ref.Source]
		v, err := fileMount("secret", "/run/secrets/", def.File, types.FileReferenceConfig(ref), warn)
		if err != nil {
			return nil, err
		}
		// Of a secret, unlike a config, a missing file is never made a directory.
		v.Bind = &types.ServiceVolumeBind{}
		out = append(out, v)
	}
	for _, ref := range s.Configs {
		def := p.Configs[ref.Source]
		v, err := fileMount("config", "/", def.File, types.FileReferenceConfig(ref), warn)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

func fileMount(kind, dir, file string, ref types.FileReferenceConfig, warn func(string)) (types.ServiceVolumeConfig, error) {
	v := types.ServiceVolumeConfig{Type: types.VolumeTypeBind, Source: file, Target: ref.Target, ReadOnly: true}
	if file == "" {
		return v, fmt.Errorf("%s %q has no file: only those are supported by Muelle yet", kind, ref.Source)
	}
	switch {
	case v.Target == "":
		v.Target = dir + ref.Source
	case !strings.HasPrefix(v.Target, "/"):
		v.Target = dir + v.Target
	}
	if (ref.UID != "" || ref.GID != "" || ref.Mode != nil) && warn != nil {
		warn(kind + "s `uid`, `gid` and `mode` are not supported, they will be ignored")
	}
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) && warn != nil {
		warn(fmt.Sprintf("%s file %s does not exist", kind, ref.Source))
	}
	return v, nil
}
