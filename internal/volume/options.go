package volume

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// What the local driver takes, as Docker's: type, device and o, in the words of
// mount(8).
const (
	optionType   = "type"
	optionDevice = "device"
	optionO      = "o"
)

// mounting is what is mounted on a volume's folder while a container uses it.
type mounting struct {
	kind, device string
	bind         bool
	recursive    bool
	flags        uintptr       // MS_…
	clear        uintptr       // MS_… that a bind loses
	propagation  uintptr       // MS_PRIVATE, …
	data         []string      // the file system's own options
	patience     time.Duration // how long a server may take; 0: mountPatience
}

// words are mount(8)'s options that are flags of mount(2).
var words = map[string]struct{ set, clear uintptr }{
	"ro": {unix.MS_RDONLY, 0}, "rw": {0, unix.MS_RDONLY},
	"nosuid": {unix.MS_NOSUID, 0}, "suid": {0, unix.MS_NOSUID},
	"nodev": {unix.MS_NODEV, 0}, "dev": {0, unix.MS_NODEV},
	"noexec": {unix.MS_NOEXEC, 0}, "exec": {0, unix.MS_NOEXEC},
	"sync": {unix.MS_SYNCHRONOUS, 0}, "async": {0, unix.MS_SYNCHRONOUS},
	"dirsync":  {unix.MS_DIRSYNC, 0},
	"lazytime": {unix.MS_LAZYTIME, 0}, "nolazytime": {0, unix.MS_LAZYTIME},
	"noatime": {unix.MS_NOATIME, 0}, "atime": {0, unix.MS_NOATIME},
	"nodiratime": {unix.MS_NODIRATIME, 0}, "diratime": {0, unix.MS_NODIRATIME},
	"relatime": {unix.MS_RELATIME, 0}, "norelatime": {0, unix.MS_RELATIME},
	"strictatime": {unix.MS_STRICTATIME, 0}, "nostrictatime": {0, unix.MS_STRICTATIME},
	"nosymfollow": {unix.MS_NOSYMFOLLOW, 0}, "symfollow": {0, unix.MS_NOSYMFOLLOW},
	"silent": {unix.MS_SILENT, 0}, "loud": {0, unix.MS_SILENT}, "defaults": {0, 0},
}

var propagations = map[string]uintptr{
	"private": unix.MS_PRIVATE, "rprivate": unix.MS_PRIVATE | unix.MS_REC,
	"slave": unix.MS_SLAVE, "rslave": unix.MS_SLAVE | unix.MS_REC,
	"shared": unix.MS_SHARED, "rshared": unix.MS_SHARED | unix.MS_REC,
}

// forOthers are options that mount(8) or init read in fstab and the kernel does not know.
var forOthers = []string{"_netdev", "nofail", "auto", "noauto", "user", "nouser", "users"}

// parseOptions reads the options of a volume; nil: it has none. Errors are
// errdefs.ErrInvalidArgument, in Docker's words where Docker has such an error.
func parseOptions(options map[string]string) (*mounting, error) {
	if len(options) == 0 {
		return nil, nil
	}
	for _, key := range slices.Sorted(maps.Keys(options)) {
		switch key {
		case optionType, optionDevice, optionO:
		case "size":
			return nil, errors.New("quota size requested but no quota support: the size of a folder cannot be limited; a tmpfs can: type=tmpfs device=tmpfs o=size=100m")
		default:
			return nil, fmt.Errorf("invalid option: %q", key)
		}
	}
	m := &mounting{kind: options[optionType], device: options[optionDevice]}
	for _, need := range []string{optionType, optionDevice} {
		if options[need] == "" {
			return nil, fmt.Errorf("missing required option: %q", need)
		}
	}
	for o := range strings.SplitSeq(options[optionO], ",") {
		if err := m.option(o); err != nil {
			return nil, err
		}
	}
	return m, m.check()
}

func (m *mounting) option(o string) error {
	word, isFlag := words[o]
	propagation, isPropagation := propagations[o]
	switch {
	case o == "" || slices.Contains(forOthers, o) || strings.HasPrefix(o, "x-") || strings.HasPrefix(o, "comment="):
	case o == "bind" || o == "rbind":
		m.bind, m.recursive = true, o == "rbind"
	case isPropagation:
		m.propagation = propagation
	case strings.HasPrefix(o, "retry="):
		return m.retry(strings.TrimPrefix(o, "retry="))
	case isFlag:
		m.flags, m.clear = m.flags&^word.clear|word.set, m.clear&^word.set|word.clear
	default:
		m.data = append(m.data, o)
	}
	return nil
}

func (m *mounting) check() error {
	for _, s := range append([]string{m.kind, m.device}, m.data...) {
		if strings.ContainsRune(s, 0) {
			return fmt.Errorf("invalid character in %q", s)
		}
	}
	if m.kind == "bind" {
		m.bind = true
	}
	switch {
	case strings.ContainsAny(m.kind, "/, "):
		return fmt.Errorf("invalid file system type %q", m.kind)
	case !m.bind && m.kind == "none":
		return errors.New("type=none needs o=bind: without it there is nothing to mount")
	case m.bind && !path.IsAbs(m.device):
		return fmt.Errorf("invalid device %q: a bind mount needs an absolute path on this host", m.device)
	case m.bind && len(m.data) > 0:
		return fmt.Errorf("invalid mount option %q: a bind mount has none beside flags such as ro or noexec", m.data[0])
	case m.bind:
		return nil
	}
	return m.ask()
}

// ask lets the kernel look at the options, as far as its file system does that before
// a mount is made. A file system that it does not know may come as a module later, and
// a server's name is looked up at each mount.
func (m *mounting) ask() error {
	fs, err := m.context(slices.DeleteFunc(slices.Clone(m.data), func(o string) bool {
		host, ok := strings.CutPrefix(o, "addr=")
		return ok && m.remote() && net.ParseIP(host) == nil
	}))
	if err != nil {
		if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSYS) {
			return nil
		}
		return err
	}
	return unix.Close(fs)
}

// context is a file system with its options set, not made yet.
func (m *mounting) context(data []string) (fs int, err error) {
	if fs, err = unix.Fsopen(m.kind, unix.FSOPEN_CLOEXEC); err != nil {
		return -1, err
	}
	defer func() {
		if err != nil {
			unix.Close(fs)
		}
	}()
	if err := unix.FsconfigSetString(fs, "source", m.device); err != nil {
		return -1, fmt.Errorf("device %q: %w", m.device, told(fs, err))
	}
	for _, f := range []struct {
		flag uintptr
		name string
	}{{unix.MS_RDONLY, "ro"}, {unix.MS_SYNCHRONOUS, "sync"}, {unix.MS_DIRSYNC, "dirsync"}, {unix.MS_LAZYTIME, "lazytime"}} {
		if m.flags&f.flag == 0 {
			continue
		}
		if err := unix.FsconfigSetFlag(fs, f.name); err != nil {
			return -1, fmt.Errorf("mount option %q: %w", f.name, told(fs, err))
		}
	}
	for _, o := range data {
		if key, value, ok := strings.Cut(o, "="); ok {
			err = unix.FsconfigSetString(fs, key, value)
		} else {
			err = unix.FsconfigSetFlag(fs, o)
		}
		if err != nil {
			return -1, fmt.Errorf("mount option %q: %w", o, told(fs, err))
		}
	}
	return fs, nil
}

// told adds what the file system itself says about an error.
func told(fs int, err error) error {
	b := make([]byte, 512)
	n, rerr := unix.Read(fs, b)
	if rerr != nil || n <= 2 {
		return err
	}
	return fmt.Errorf("%w (%s)", err, strings.TrimSpace(string(b[2:n])))
}

// resolved gives the file system's options with the address of a server in numbers:
// the kernel asks no name server. As Docker does for addr=; where that is missing it
// is taken from the device.
func (m *mounting) resolved(ctx context.Context) ([]string, error) {
	if !m.remote() {
		return m.data, nil
	}
	data, at, host := slices.Clone(m.data), -1, ""
	for i, o := range data {
		if v, ok := strings.CutPrefix(o, "addr="); ok {
			at, host = i, v
		}
	}
	if host == "" {
		host = m.server()
	}
	if host == "" {
		return nil, errdefs.ErrInvalidArgument.WithMessage("no server is named: add o=addr=SERVER")
	}
	if net.ParseIP(host) == nil {
		found, err := net.DefaultResolver.LookupIPAddr(ctx, host)
		if err != nil {
			return nil, fmt.Errorf("find server %s: %w", host, err)
		}
		host = found[0].IP.String()
		// As Docker does, whatever the order of the answers.
		if i := slices.IndexFunc(found, func(a net.IPAddr) bool { return a.IP.To4() != nil }); i >= 0 {
			host = found[i].IP.String()
		}
	}
	if at < 0 {
		return append(data, "addr="+host), nil
	}
	data[at] = "addr=" + host
	return data, nil
}

// remote tells whether a server has the files.
func (m *mounting) remote() bool {
	return slices.Contains([]string{"nfs", "nfs4", "cifs", "smb3"}, m.kind)
}

// server is the host in the device: HOST:/path of NFS, //HOST/share of CIFS.
func (m *mounting) server() string {
	if rest, ok := strings.CutPrefix(m.device, "//"); ok {
		host, _, _ := strings.Cut(rest, "/")
		return host
	}
	if strings.HasPrefix(m.device, "[") {
		host, _, _ := strings.Cut(m.device[1:], "]")
		return host
	}
	host, _, _ := strings.Cut(m.device, ":")
	return host
}
