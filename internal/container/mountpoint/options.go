package mountpoint

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/mount"

	"muelle/api"
)

func bindOf(m Mount, spec mount.Mount) (Mount, error) {
	switch {
	case spec.Source == "":
		return m, errors.New("field Source must not be empty")
	case !path.IsAbs(spec.Source):
		return m, fmt.Errorf("invalid mount path: '%s' mount path must be absolute", spec.Source)
	case spec.VolumeOptions != nil:
		return m, errors.New("field VolumeOptions must not be specified")
	case spec.TmpfsOptions != nil:
		return m, errors.New("field TmpfsOptions must not be specified")
	case spec.ImageOptions != nil:
		return m, errors.New("field ImageOptions must not be specified")
	}
	m.Source, m.Propagation = path.Clean(spec.Source), mount.PropagationRPrivate
	if o := spec.BindOptions; o != nil {
		if o.Propagation != "" {
			if !slices.Contains(propagations, string(o.Propagation)) {
				return m, fmt.Errorf("invalid propagation mode: %s", o.Propagation)
			}
			m.Propagation = o.Propagation
		}
		if o.ReadOnlyForceRecursive && (m.RW || o.ReadOnlyNonRecursive || o.NonRecursive) {
			return m, errors.New("ReadOnlyForceRecursive needs a recursive read-only mount")
		}
		m.NonRecursive, m.CreateSource = o.NonRecursive, o.CreateMountpoint
		m.ReadOnlyNonRecursive, m.ReadOnlyForceRecursive = o.ReadOnlyNonRecursive, o.ReadOnlyForceRecursive
	}
	if !m.CreateSource {
		if _, err := os.Stat(m.Source); errors.Is(err, fs.ErrNotExist) {
			return m, fmt.Errorf("bind source path does not exist: %s", m.Source)
		} else if err != nil {
			return m, err
		}
	}
	return m, nil
}

func volumeOf(m Mount, spec mount.Mount, volumeDriver string) (Mount, error) {
	switch {
	case spec.BindOptions != nil:
		return m, errors.New("field BindOptions must not be specified")
	case spec.TmpfsOptions != nil:
		return m, errors.New("field TmpfsOptions must not be specified")
	case spec.ImageOptions != nil:
		return m, errors.New("field ImageOptions must not be specified")
	case spec.Source == "" && spec.ReadOnly:
		return m, errors.New("must not set ReadOnly mode when using anonymous volumes")
	}
	m.Name, m.Driver, m.Mode = spec.Source, volumeDriver, "z"
	m.Anonymous = m.Name == ""
	if o := spec.VolumeOptions; o != nil {
		if err := checkSubpath(o.Subpath); err != nil {
			return m, err
		}
		if o.Subpath != "" && m.Anonymous {
			return m, errors.New("must not set Subpath when using anonymous volumes")
		}
		// Only the volume as a whole is filled from the image.
		m.Subpath = o.Subpath
		m.NoCopy, m.Labels = o.NoCopy || o.Subpath != "", o.Labels
		// A project hands a container's anonymous volumes on to the one that replaces it.
		if _, ok := o.Labels[api.LabelAnonymous]; ok && !m.Anonymous {
			m.Anonymous, m.Reused = true, true
		}
		if o.DriverConfig != nil {
			m.Driver, m.DriverOpts = o.DriverConfig.Name, o.DriverConfig.Options
		}
	}
	return m, nil
}

func tmpfsOf(m Mount, spec mount.Mount) (Mount, error) {
	switch {
	case spec.Source != "":
		return m, errors.New("field Source must not be specified")
	case spec.BindOptions != nil:
		return m, errors.New("field BindOptions must not be specified")
	case spec.VolumeOptions != nil:
		return m, errors.New("field VolumeOptions must not be specified")
	case spec.ImageOptions != nil:
		return m, errors.New("field ImageOptions must not be specified")
	}
	m.TmpfsOptions = defaultTmpfsOptions()
	if spec.ReadOnly {
		m.TmpfsOptions = append(m.TmpfsOptions, "ro")
	}
	o := spec.TmpfsOptions
	if o == nil {
		return m, nil
	}
	if o.Mode != 0 {
		m.TmpfsOptions = append(m.TmpfsOptions, "mode="+strconv.FormatUint(uint64(o.Mode), 8))
	}
	if o.SizeBytes < 0 {
		return m, errors.New("size of a tmpfs cannot be negative")
	}
	if o.SizeBytes != 0 {
		m.TmpfsOptions = append(m.TmpfsOptions, "size="+strconv.FormatInt(o.SizeBytes, 10))
	}
	for _, kv := range o.Options {
		opt := strings.Join(kv, "=")
		if len(kv) == 0 || len(kv) > 2 || !validTmpfsOption(opt) {
			return m, fmt.Errorf("invalid tmpfs option %q", opt)
		}
		m.TmpfsOptions = append(m.TmpfsOptions, opt)
	}
	return m, nil
}

// imageOf reads a mount of an image, which is always read-only, as Docker's.
func imageOf(m Mount, spec mount.Mount) (Mount, error) {
	switch {
	case spec.Source == "":
		return m, errors.New("field Source must not be empty")
	case spec.BindOptions != nil:
		return m, errors.New("field BindOptions must not be specified")
	case spec.VolumeOptions != nil:
		return m, errors.New("field VolumeOptions must not be specified")
	case spec.TmpfsOptions != nil:
		return m, errors.New("field TmpfsOptions must not be specified")
	}
	m.Name, m.RW = spec.Source, false
	if o := spec.ImageOptions; o != nil {
		m.Subpath = o.Subpath
	}
	return m, checkSubpath(m.Subpath)
}

// checkSubpath: the path stays below its root by its words; that no link leads out
// of it is seen to when it is opened.
func checkSubpath(p string) error {
	if p != "" && (!filepath.IsLocal(p) || strings.ContainsRune(p, 0)) {
		return fmt.Errorf("subpath %q must be a relative path within the source", p)
	}
	return nil
}
