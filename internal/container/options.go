package container

import (
	"io"
	"log/slog"

	ctypes "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"muelle/internal/event"
	"muelle/internal/filter"
	"muelle/internal/logdriver"
	"muelle/internal/oci"
	"muelle/internal/runtime"
)

// Options are the parts that the Service is made of.
type Options struct {
	Root         string // data-root/containers: writable layers, logs, durable records
	ExecRoot     string // exec-root/containers: what is valid for one boot
	Instance     string
	CgroupParent string // "muelle" or "muelle-INSTANCE"
	// CgroupDriver is cgroupfs where it is empty.
	CgroupDriver CgroupDriver
	// DefaultCgroupParent, if not empty, is the HostConfig.CgroupParent of containers
	// that have none.
	DefaultCgroupParent string

	Runtime runtime.Runtime

	Images   images   // *image.Service
	Networks networks // *network.Service
	Volumes  volumes  // *volume.Service
	Bus      *event.Bus
	Log      *slog.Logger

	// DefaultLog is used for containers that ask for no log driver; the zero value
	// means json-file, 10 MiB × 5, compressed.
	DefaultLog LogDefaults
	// LogHelper is the path of the program that sends logs over TLS.
	LogHelper string
	// Defaults of what a container does not say itself; SetDefaults replaces them.
	Defaults Defaults
	// Security is what containers have that say nothing themselves.
	Security SecurityDefaults
	// UserNS says which ids containers have.
	UserNS UserNS
	// Init is the daemon's own default of HostConfig.Init.
	Init bool
	// StartOnBoot says whether a container that its restart policy wants started
	// when the daemon comes up is started by Open itself (true, also where the
	// function is nil) or left to somebody else, who finds it in Pending.
	StartOnBoot func(labels map[string]string) bool
}

// SecurityDefaults are the daemon-wide security options.
type SecurityDefaults struct {
	NoNewPrivileges bool
	// Seccomp is a profile as JSON, "unconfined", or empty for the built-in one.
	Seccomp string
	Modules oci.Modules
	// AppArmor is the profile of containers that name none: see oci.Options.
	AppArmor string
	// LoadAppArmor makes sure that a profile is loaded, and loads the default one itself;
	// called before a start that needs it.
	LoadAppArmor func(profile string) error
}

// LogDefaults is the log driver of containers that ask for none.
type LogDefaults struct {
	Type   string
	Config map[string]string
}

// CreateOptions is the body and query of POST /containers/create.
type CreateOptions struct {
	Name       string
	Platform   string
	Config     *ctypes.Config
	HostConfig *ctypes.HostConfig
	Networking *network.NetworkingConfig
}

// StopOptions override the container's own stop signal and timeout (in seconds;
// negative: wait for ever).
type StopOptions struct {
	Signal  string
	Timeout *int

	by Asker // empty: a user
}

// RemoveOptions are those of DELETE /containers/NAME.
type RemoveOptions struct {
	Force   bool
	Volumes bool // anonymous volumes too
	Link    bool // remove a link, not the container: refused, there are none
}

// ListOptions select containers.
type ListOptions struct {
	All     bool
	Limit   int // the last created ones, in any state; 0: no bound
	Size    bool
	Filters filter.Args
}

// Streams connect a client to a process. Nil members are not connected; with a
// terminal everything comes on Stdout.
type Streams struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// AttachOptions describe an attachment.
type AttachOptions struct {
	// Open is called exactly once when the container was found, and sends the
	// headers of the answer: no start of this container can pass between it and the
	// attachment, so nothing that the process prints is missed. An error from it ends
	// Attach.
	Open func(tty bool) (Streams, error)
	// Logs replays what was printed so far, Stream follows what comes.
	Logs, Stream bool
	// DetachKeys, if not empty, are watched for in standard input by the caller; a
	// cancelled context detaches.
	DetachKeys string
}

// LogOptions are those of GET /containers/NAME/logs.
type LogOptions struct {
	Follow bool
	logdriver.ReadOptions
}

// ExecStartOptions start an exec that was created before.
type ExecStartOptions struct {
	Streams
	Detach bool
	// ConsoleSize is height and width, as in Docker's API; nil: the created one's.
	ConsoleSize *[2]uint
}

// StatsOptions are those of GET /containers/NAME/stats.
type StatsOptions struct {
	Stream  bool
	OneShot bool // do not wait a second for the previous reading
}
