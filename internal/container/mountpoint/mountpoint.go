// Package mountpoint reads what a container is to have mounted: -v, --mount, --tmpfs,
// --volumes-from and the volumes of the image, with Docker's rules and texts.
package mountpoint

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	ctypes "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"muelle/internal/id"
)

// Mount is one mount of a container beyond those that every container has.
type Mount struct {
	Type        mount.Type
	Name        string // a volume's
	Source      string
	Destination string
	Driver      string
	Mode        string
	RW          bool
	Propagation mount.Propagation `json:",omitempty"`

	Anonymous bool `json:",omitempty"`
	// Reused: the anonymous volume was made for another container.
	Reused bool `json:",omitempty"`
	NoCopy bool `json:",omitempty"`
	// CreateSource: a missing host path is made, as -v does and --mount does not.
	CreateSource           bool              `json:",omitempty"`
	NonRecursive           bool              `json:",omitempty"`
	ReadOnlyNonRecursive   bool              `json:",omitempty"`
	ReadOnlyForceRecursive bool              `json:",omitempty"`
	TmpfsOptions           []string          `json:",omitempty"`
	Labels                 map[string]string `json:",omitempty"`
	DriverOpts             map[string]string `json:",omitempty"`
	// Subpath is what of a volume or an image is mounted, below its root.
	Subpath string `json:",omitempty"`
	// Image is what an image was when the container was made; Name is what was asked for.
	Image *Image `json:",omitempty"`
}

// Image keeps what is needed to find the layers of a mounted image again.
type Image struct {
	ID       digest.Digest
	Manifest ocispec.Descriptor
	ChainID  digest.Digest
}

var propagations = []string{"private", "rprivate", "shared", "rshared", "slave", "rslave"}

// ParseBind reads Docker's src:dst[:mode], name:dst[:mode] or dst.
func ParseBind(raw, volumeDriver string) (Mount, error) {
	invalid := func(why string) (Mount, error) {
		msg := fmt.Sprintf("invalid volume specification: '%s'", raw)
		if why != "" {
			msg += ": " + why
		}
		return Mount{}, errdefs.ErrInvalidArgument.WithMessage(msg)
	}
	parts := strings.SplitN(raw, ":", 4)
	m := Mount{RW: true}
	switch {
	case parts[0] == "" || len(parts) > 3:
		return invalid("")
	case len(parts) == 1:
		m.Destination = parts[0]
	default:
		m.Source, m.Destination = parts[0], parts[1]
		if len(parts) == 2 && validMode(parts[1]) && !path.IsAbs(parts[1]) {
			return invalid("") // "/foo:ro": a volume cannot have a mode without a destination
		}
		if len(parts) == 3 {
			m.Mode = parts[2]
		}
	}
	if !validMode(m.Mode) {
		return invalid(fmt.Sprintf("invalid mode: %s", m.Mode))
	}
	if err := checkTarget(m.Destination); err != nil {
		return invalid(err.Error())
	}
	m.Destination = path.Clean(m.Destination)
	if path.IsAbs(m.Source) {
		m.Type, m.Source, m.CreateSource = mount.TypeBind, path.Clean(m.Source), true
	} else {
		m.Type, m.Name, m.Source, m.Driver = mount.TypeVolume, m.Source, "", volumeDriver
		m.Anonymous = m.Name == ""
	}
	return applyMode(m)
}

func applyMode(m Mount) (Mount, error) {
	for _, o := range strings.Split(m.Mode, ",") {
		switch {
		case o == "ro":
			m.RW = false
		case o == "nocopy":
			m.NoCopy = true
		case slices.Contains(propagations, o):
			if m.Type != mount.TypeBind {
				return m, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid volume specification: '%s:%s:%s': invalid mode: %s", m.Name, m.Destination, m.Mode, m.Mode))
			}
			m.Propagation = mount.Propagation(o)
		}
	}
	if m.Type == mount.TypeBind {
		if m.NoCopy {
			return m, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid volume specification: '%s:%s:%s': invalid mode: %s", m.Source, m.Destination, m.Mode, m.Mode))
		}
		if m.Propagation == "" {
			m.Propagation = mount.PropagationRPrivate
		}
	}
	return m, nil
}

// validMode tells whether mode is a list of known options, each kind once.
func validMode(mode string) bool {
	if mode == "" {
		return true
	}
	var access, label, propagation, nocopy int
	for _, o := range strings.Split(mode, ",") {
		switch {
		case o == "ro" || o == "rw":
			access++
		case o == "z" || o == "Z":
			label++
		case o == "nocopy":
			nocopy++
		case slices.Contains(propagations, o):
			propagation++
		case o == "consistent" || o == "cached" || o == "delegated" || o == "default":
		default:
			return false
		}
	}
	return access <= 1 && label <= 1 && propagation <= 1 && nocopy <= 1
}

func checkTarget(target string) error {
	switch {
	case target == "":
		return errors.New("field Target must not be empty")
	case !path.IsAbs(target):
		return fmt.Errorf("invalid mount path: '%s' mount path must be absolute", target)
	case path.Clean(target) == "/":
		return errors.New("invalid specification: destination can't be '/'")
	}
	return nil
}

// parseMount reads one entry of HostConfig.Mounts.
func parseMount(spec mount.Mount, volumeDriver string) (Mount, error) {
	m, err := mountOf(spec, volumeDriver)
	if err != nil {
		if errdefs.IsNotImplemented(err) {
			return m, err
		}
		return m, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid mount config for type %q: %s", spec.Type, err))
	}
	return m, nil
}

func mountOf(spec mount.Mount, volumeDriver string) (Mount, error) {
	m := Mount{Type: spec.Type, RW: !spec.ReadOnly}
	if err := checkTarget(spec.Target); err != nil {
		return m, err
	}
	m.Destination = path.Clean(spec.Target)
	switch spec.Type {
	case mount.TypeBind:
		return bindOf(m, spec)
	case mount.TypeVolume:
		return volumeOf(m, spec, volumeDriver)
	case mount.TypeTmpfs:
		return tmpfsOf(m, spec)
	case mount.TypeImage:
		return imageOf(m, spec)
	case mount.TypeCluster:
		return m, errdefs.ErrNotImplemented.WithMessage("cluster volumes are not supported: there is no swarm here")
	case mount.TypeNamedPipe:
		return m, errors.New("named pipes are of Windows; bind a Unix socket or a FIFO with type=bind")
	}
	return m, errors.New("mount type unknown")
}

// parseTmpfs reads one entry of HostConfig.Tmpfs.
func parseTmpfs(dest, options string) (Mount, error) {
	if err := checkTarget(dest); err != nil {
		return Mount{}, errdefs.ErrInvalidArgument.WithMessage(err.Error())
	}
	m := Mount{Type: mount.TypeTmpfs, Destination: path.Clean(dest), RW: true, TmpfsOptions: defaultTmpfsOptions()}
	if options == "" {
		return m, nil
	}
	for _, o := range strings.Split(options, ",") {
		if !validTmpfsOption(o) {
			return m, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid tmpfs option [%q]", o))
		}
		m.TmpfsOptions = overrideOption(m.TmpfsOptions, o)
		m.RW = m.RW && o != "ro"
	}
	return m, nil
}

func defaultTmpfsOptions() []string { return []string{"noexec", "nosuid", "nodev", "rprivate"} }

var opposites = map[string]string{
	"exec": "noexec", "noexec": "exec", "suid": "nosuid", "nosuid": "suid", "dev": "nodev", "nodev": "dev",
	"ro": "rw", "rw": "ro", "atime": "noatime", "noatime": "atime", "sync": "async", "async": "sync",
	"diratime": "nodiratime", "nodiratime": "diratime", "relatime": "norelatime", "norelatime": "relatime",
	"strictatime": "nostrictatime", "nostrictatime": "strictatime",
	"bind": "", "rbind": "", "remount": "", "private": "", "rprivate": "", "shared": "", "rshared": "", "slave": "", "rslave": "",
	"defaults": "",
}

func validTmpfsOption(o string) bool {
	key, value, hasValue := strings.Cut(o, "=")
	if _, ok := opposites[key]; ok {
		return !hasValue
	}
	switch key {
	case "size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol", "huge":
		return hasValue && value != "" && !strings.ContainsAny(value, "\x00")
	}
	return false
}

// overrideOption adds o, and takes away what it contradicts.
func overrideOption(options []string, o string) []string {
	if other := opposites[o]; other != "" {
		options = slices.DeleteFunc(options, func(x string) bool { return x == other })
	}
	if slices.Contains(options, o) {
		return options
	}
	return append(options, o)
}

// Source gives the mounts of another container, for --volumes-from.
type Source func(ref string) ([]Mount, error)

// ParseAll puts together every mount that was asked for, those of another
// container first, then Binds, Mounts and Tmpfs, then the volumes of the image
// where nothing else is mounted. Destinations are unique.
func ParseAll(cfg *ctypes.Config, hc *ctypes.HostConfig, from Source) ([]Mount, error) {
	byDest := map[string]Mount{}
	var order []string
	put := func(m Mount) {
		if _, ok := byDest[m.Destination]; !ok {
			order = append(order, m.Destination)
		}
		byDest[m.Destination] = m
	}
	for _, v := range hc.VolumesFrom {
		mounts, err := parseVolumesFrom(v, from)
		if err != nil {
			return nil, err
		}
		for _, m := range mounts {
			put(m)
		}
	}
	own, tmpfs := map[string]bool{}, map[string]bool{}
	add := func(m Mount, err error) error {
		if err != nil {
			return err
		}
		if own[m.Destination] {
			return errdefs.ErrInvalidArgument.WithMessage("Duplicate mount point: " + m.Destination)
		}
		own[m.Destination] = true
		put(m)
		return nil
	}
	for _, b := range hc.Binds {
		if err := add(ParseBind(b, hc.VolumeDriver)); err != nil {
			return nil, err
		}
	}
	for _, spec := range hc.Mounts {
		if err := add(parseMount(spec, hc.VolumeDriver)); err != nil {
			return nil, err
		}
	}
	for _, dest := range slices.Sorted(maps.Keys(hc.Tmpfs)) {
		m, err := parseTmpfs(dest, hc.Tmpfs[dest])
		if err := add(m, err); err != nil {
			return nil, err
		}
		tmpfs[m.Destination] = true
	}
	for _, dest := range slices.Sorted(maps.Keys(cfg.Volumes)) {
		if err := checkTarget(dest); err != nil {
			return nil, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid volume specification: '%s': %s", dest, err))
		}
		if dest = path.Clean(dest); byDest[dest].Destination == "" {
			put(Mount{Type: mount.TypeVolume, Destination: dest, Driver: hc.VolumeDriver, RW: true, Anonymous: true})
		}
	}
	mounts := make([]Mount, 0, len(order))
	for _, dest := range order {
		m := byDest[dest]
		if _, ok := tmpfs[dest]; ok {
			continue // HostConfig.Tmpfs says it all; inspect lists no such mounts
		}
		if m.Type == mount.TypeVolume && m.Name == "" {
			m.Name = id.New()
		}
		mounts = append(mounts, m)
	}
	return mounts, nil
}

func parseVolumesFrom(spec string, from Source) ([]Mount, error) {
	ref, mode, hasMode := strings.Cut(spec, ":")
	if ref == "" {
		return nil, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid volumes-from specification: '%s'", spec))
	}
	if hasMode && (!validMode(mode) || strings.Contains(mode, "nocopy") || slices.ContainsFunc(strings.Split(mode, ","), func(o string) bool { return slices.Contains(propagations, o) })) {
		return nil, errdefs.ErrInvalidArgument.WithMessage("invalid mode for volumes-from: " + mode)
	}
	mounts, err := from(ref)
	if err != nil {
		return nil, err
	}
	out := slices.Clone(mounts)
	for i := range out {
		out[i].NoCopy, out[i].Reused = true, out[i].Anonymous
		if hasMode {
			out[i].RW = out[i].RW && !slices.Contains(strings.Split(mode, ","), "ro")
		}
	}
	return out, nil
}
