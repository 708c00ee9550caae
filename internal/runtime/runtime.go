// Package runtime is the contract between the engine and whatever makes a
// process run in isolation: it takes an OCI runtime-spec document with a list of
// root filesystem mounts, and gives back a Task that outlives the daemon. The
// implementation of the project is in the folder native (our own shim); another
// OCI runtime can be put behind the same contract, and every implementation
// passes the suite in runtime/runtimetest.
package runtime

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"muelle/internal/logdriver"
)

// Container describes one container to start. It is read, never kept or changed.
type Container struct {
	// ID is unique per exec-root; it names the cgroup's last element too.
	ID string
	// Dir is a folder of this container alone, below exec-root, mode 0700, that
	// exists. The runtime keeps its socket and records in it; Delete empties what
	// the runtime put there, not more.
	Dir string
	// Spec is the OCI document. Root.Path is ignored where Rootfs is not empty.
	// Linux.CgroupsPath is the cgroup's path below each hierarchy's root.
	// A network namespace entry without a path means: join NetNS if that is set,
	// else make a new empty one. No network namespace entry means the host's.
	Spec *specs.Spec
	// Rootfs is mounted in order, inside the container's own mount namespace, on
	// one directory which becomes "/": an overlay, a bind, whatever mount(2) takes.
	// So no mount of a container is ever visible on the host.
	Rootfs []Mount
	// Subpaths restricts mounts of the document, named by their destination, to a path
	// below their source, which the runtime resolves so that no link of a container
	// leads out of the source.
	Subpaths map[string]string
	// NetNS is the network namespace that the daemon made, or nil.
	NetNS *os.File
	// UserNS is the user namespace that the daemon made with Linux.UIDMappings and
	// GIDMappings, for a user namespace entry without a path. Nil: the runtime makes one.
	UserNS *os.File
	// OpenStdin keeps a pipe (or the terminal) as standard input; otherwise it is
	// /dev/null. StdinOnce closes it when the first attached writer leaves.
	OpenStdin, StdinOnce bool
	// ConsoleWidth and ConsoleHeight set the terminal's first size, in cells.
	ConsoleWidth, ConsoleHeight uint16
	// Log says where the shim writes what the process prints.
	Log logdriver.Config
	// Held are descriptors that the shim keeps open as long as the container
	// runs: see Held.
	Held []Held
	// Sent, unless nil, is called during Start when the shim has NetNS and Held, which
	// the caller may close from then on: with many of them that takes its time.
	Sent func() `json:"-"`
	// Runtime names an OCI runtime of the daemon's configuration; empty is Muelle's own.
	Runtime string
	// Idle: nothing but that init process runs, until the last exec has ended or the
	// daemon's connection is gone. Process.Args count for nothing.
	Idle bool
	// Init puts a minimal init process as PID 1 that reaps and forwards signals.
	Init bool
	// Attach is connected before the first instruction of the process runs.
	Attach []*Streams
	// Prepared is what Runtime.Prepare made for ID and Dir, or nil. Start uses it up,
	// whatever it returns.
	Prepared Prepared `json:"-"`
}

// Prepared is what a start has ready before its document is known.
type Prepared interface {
	// Discard takes it away where no Start was given it.
	Discard() error
	// Hold is Task.Hold ahead of the start, with which relays begin.
	Hold(ctx context.Context, more []Held) error
}

// Mount is one mount(2) call; Options as in mount(8), "bind", "ro", "lowerdir=…".
// "idmap" (of a bind also "ridmap", with what is mounted below) shows the ids on disk
// with the map of the container's user namespace: what is 0 there is root inside.
// More lower directories than fit a page are the runtime's problem, not the caller's.
type Mount struct {
	Type, Source string
	Options      []string
}

// Held is a socket that must outlive the daemon: a resolver's socket in the
// container's network namespace, a bound socket that reserves a published port,
// or, where RelayTo is valid, a listening TCP or SCTP socket of IPv6 or a bound UDP one
// whose traffic the shim itself relays to that address.
type Held struct {
	Name    string // unique in the container, given back by Task.Held
	File    *os.File
	RelayTo netip.AddrPort
	// Datagram: a UDP socket is to be relayed.
	Datagram bool
	// Messages: one of SCTP is.
	Messages bool
	// Farewell, where it is not empty, is sent to the kernel by a socket of
	// NETLINK_NETFILTER in the shim's network namespace when the container ends while no
	// daemon is connected.
	Farewell []byte
	// There: Prepared.Hold was given it already.
	There bool
}

// Streams is one attachment. Nil members are not connected. A slow reader slows
// the process and loses nothing.
type Streams struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Done is called once, when every output has been delivered and the process
	// has closed its side, or the attachment failed (err is then not nil).
	Done func(err error)
}

// Exit is how a process ended.
type Exit struct {
	// Code is the exit status, or 128 plus the signal's number.
	Code int
	// Signal is the signal that ended the process, or 0.
	Signal    syscall.Signal
	At        time.Time
	OOMKilled bool
	// Pid is the number that the container's first process had on the host; 0: not
	// known, and for an exec.
	Pid int
	// Logged is of the whole run; zero for an exec.
	Logged Logged
}

// Logged counts what of a run's output was not kept as it came.
type Logged struct {
	// Partial are pieces of lines longer than an entry may be.
	Partial uint64
	// Unread are reads from the container's output that failed.
	Unread uint64
	// Unwritten are entries that no file or service took.
	Unwritten uint64
}

// Add adds what another run had.
func (l *Logged) Add(o Logged) {
	l.Partial, l.Unread, l.Unwritten = l.Partial+o.Partial, l.Unread+o.Unread, l.Unwritten+o.Unwritten
}

// StartError is returned by Start and Exec when the process could not be
// started: Code is what Docker exits with, 127 for a missing program, 126 for one
// that cannot be executed, 128 or 125 for everything else.
type StartError struct {
	Code int
	Err  error
}

func (e *StartError) Error() string { return e.Err.Error() }
func (e *StartError) Unwrap() error { return e.Err }

// ErrLog is Start's error where the service that takes the log cannot be reached;
// what follows it is the kernel's word.
var ErrLog = errors.New("connect to the log's service")

// ExecOptions describes a further process in a running container.
type ExecOptions struct {
	ID        string // unique in the container
	OpenStdin bool
	Width     uint16
	Height    uint16
	// Privileged gives all capabilities and no seccomp filter.
	Privileged bool
	Streams    *Streams // nil: output is discarded
	// Record is kept with the process and given back by Task.Execs.
	Record []byte
	// Tools, unless nil, makes it a debug session: a mount tree that is attached nowhere
	// is mounted at ToolsAt in a copy of the container's mount namespace that only this
	// process and its children see. They end when it does, and with the daemon.
	Tools   *os.File
	ToolsAt string
	// Target, unless empty, is a directory of Tools, which becomes the root directory of
	// the process; the container's files are there.
	Target string
}

// Exec is an exec that another daemon started: one that runs, or one that ended
// since, whose Wait answers at once.
type Exec struct {
	ID      string
	Record  []byte
	Process Process
}

// Runtime makes and adopts tasks. Methods are safe for concurrent use.
type Runtime interface {
	// Start makes the container and starts its process. When it returns an error
	// nothing is left behind. Errors of the image's program are a *StartError.
	Start(ctx context.Context, c *Container) (Task, error)
	// Prepare does the part of a start that needs no document, while its caller sees to
	// the rest; cgroupsPath is what the document will have, descriptors about how many
	// sockets of published ports it will be given. For Muelle's own runtime only.
	// When it returns an error nothing is left behind.
	Prepare(id, dir, cgroupsPath string, descriptors int) (Prepared, error)
	// Load adopts what runs, or ran, below dir, after the daemon was restarted. A
	// container that ended meanwhile gives a Task whose Wait answers at once.
	// errdefs.ErrNotFound: there is nothing, or it is of another boot.
	Load(ctx context.Context, id, dir string) (Task, error)
	// Clean kills and removes whatever is left of a container that Load cannot
	// find (after a reboot or a lost record): processes by cgroup, the cgroup, files.
	Clean(ctx context.Context, id, dir, cgroupsPath string) error
}

// Task is a container that runs, or has run and was not deleted.
type Task interface {
	ID() string
	// Pid is the container's first process in the host's numbering, 0 when it ended.
	Pid() int
	StartedAt() time.Time
	// Wait returns when the process has ended and its output was written to the
	// log; any number of callers, also after the end.
	Wait(ctx context.Context) (Exit, error)
	// Signal reaches the first process. errdefs.ErrFailedPrecondition once it ended.
	Signal(ctx context.Context, sig syscall.Signal) error
	Pause(ctx context.Context) error
	Resume(ctx context.Context) error
	Resize(ctx context.Context, width, height uint16) error
	// Attach connects streams to the running process and returns at once; the end
	// is told by Streams.Done. Cancelling ctx detaches, which the process does not
	// notice (unless StdinOnce).
	Attach(ctx context.Context, s *Streams) error
	// Exec starts a further process; Process.Terminal asks for a terminal.
	Exec(ctx context.Context, p *specs.Process, o ExecOptions) (Process, error)
	// Execs gives what an adopted container has of execs that were started before the
	// daemon was; those that ended are given once.
	Execs(ctx context.Context) ([]Exec, error)
	Pids(ctx context.Context) ([]int, error)
	Stats(ctx context.Context) (*Stats, error)
	// Logged is what was counted so far; zero where nobody counts.
	Logged(ctx context.Context) (Logged, error)
	Update(ctx context.Context, r *specs.LinuxResources) error
	// Held gives duplicates of the descriptors named at Start, by name. The caller
	// closes them.
	Held(ctx context.Context) (map[string]*os.File, error)
	// Hold gives a running container further descriptors to hold, all or none. The
	// caller's stay the caller's. errdefs.ErrFailedPrecondition once it ended.
	Hold(ctx context.Context, more []Held) error
	// LetGo closes the held descriptors of these names, and ends their relays' connections.
	LetGo(ctx context.Context, names []string) error
	// NetNS gives a descriptor of the container's network namespace.
	NetNS(ctx context.Context) (*os.File, error)
	// Delete kills what still runs, and removes the cgroup, the shim and its files.
	// Idempotent.
	Delete(ctx context.Context) error
}

// Process is one exec. It stays valid after a restart of the daemon only by
// Wait's result; streams end with the daemon.
type Process interface {
	Pid() int
	Wait(ctx context.Context) (Exit, error)
	Signal(ctx context.Context, sig syscall.Signal) error
	Resize(ctx context.Context, width, height uint16) error
}

// Stats is one reading of the container's cgroup. Times in nanoseconds, sizes in bytes.
type Stats struct {
	Read                         time.Time
	CPUTotal, CPUUser, CPUSystem uint64
	ThrottledPeriods, Periods    uint64
	ThrottledTime                uint64
	MemoryUsage, MemoryMax       uint64
	MemoryLimit                  uint64
	MemoryStat                   map[string]uint64
	OOMKills                     uint64
	PidsCurrent, PidsLimit       uint64
	BlockRead, BlockWrite        uint64
	BlockReadOps, BlockWriteOps  uint64
	CgroupVersion                int
}
