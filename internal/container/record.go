package container

import (
	"sync"
	"time"

	ctypes "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/opencontainers/runtime-spec/specs-go"

	"muelle/api"
	"muelle/internal/container/mountpoint"
	"muelle/internal/image"
	"muelle/internal/linux/userns"
	"muelle/internal/logdriver"
	"muelle/internal/meta"
	"muelle/internal/runtime"
)

// recordVersion is the newest: that of a record with ranges of ports. Others are written
// as recordPlain, which older programs read.
const (
	recordPlain   = 1
	recordVersion = 2
	recordName    = "container"
	stateName     = "state"
)

// record is what a container was created with and what rename and update change.
// It is written durably, except for containers that go when they end.
type record struct {
	ID, Name   string // without slash
	Created    time.Time
	Platform   ocispec.Platform
	Image      imageRecord
	Config     *ctypes.Config
	HostConfig *ctypes.HostConfig
	Path       string
	Args       []string
	Mounts     []mountpoint.Mount
	// Endpoints by network name, as asked for.
	Endpoints map[string]*network.EndpointSettings
	Log       logdriver.Config
	// Ranges are, on the disk only, ports of Config and HostConfig that follow one another.
	Ranges []api.PortRange `json:",omitempty"`
	// ProcessLabel and MountLabel are SELinux's.
	ProcessLabel, MountLabel string `json:",omitempty"`
	// Userns are the ids of a container that has a range of its own (--userns auto).
	Userns *userns.Map `json:",omitempty"`
	// Debug: it was made for a debug session, which it ends with.
	Debug *debugRecord `json:",omitempty"`
}

// debugRecord says what a session's container is for.
type debugRecord struct {
	Of string `json:",omitempty"` // the container whose files it has; empty: an image's
}

// imageRecord keeps what is needed of an image even when its names are gone.
type imageRecord struct {
	ID       digest.Digest
	Manifest ocispec.Descriptor
	ChainID  digest.Digest
	Size     int64
}

// image gives what the image service needs to find the layers again.
func (r *record) image() *image.Image {
	return &image.Image{ID: r.Image.ID, Manifest: r.Image.Manifest, ChainID: r.Image.ChainID}
}

// state is what changes by itself. It is written at each change without fsync.
type state struct {
	Status     ctypes.ContainerState // created, running, paused, restarting, exited, dead
	ExitCode   int
	OOMKilled  bool
	Error      string
	StartedAt  time.Time
	FinishedAt time.Time
	// Started: it was started at least once. Stopped: a user stopped it last.
	Started, Stopped bool
	RestartCount     int
	Health           *ctypes.Health
	// FailingSince is when the check began that was the first of the failing streak.
	FailingSince time.Time `json:",omitzero"`
	// Userns are the ids of the run that is on, or of the last; nil: the host's.
	Userns *userns.Map `json:",omitempty"`
	// PausedByCommit: a commit froze it, and lets it go on.
	PausedByCommit bool `json:",omitempty"`
	// Endpoints and Ports of the run that is on, or empty.
	Endpoints map[string]*network.EndpointSettings
	Ports     network.PortMap
	// Ranges are, on the disk only, some of Ports that follow one another.
	Ranges []api.PortRange `json:",omitempty"`
	// Changing: its networks or published ports are being changed. A daemon that finds it
	// set makes them what the record says.
	Changing bool `json:",omitempty"`
	// Pid of the last run's first process, in the host's numbering.
	Pid int `json:",omitempty"`
	// Endings of the last runs and attempts to start, oldest first.
	Endings []Ending `json:",omitempty"`
}

// running tells whether Docker would call it running: restarting counts too.
func (st *state) running() bool {
	switch st.Status {
	case ctypes.StateRunning, ctypes.StatePaused, ctypes.StateRestarting:
		return true
	}
	return false
}

// alive tells whether there is a process.
func (st *state) alive() bool {
	return st.Status == ctypes.StateRunning || st.Status == ctypes.StatePaused
}

// entry is one container: its record and what is known while the daemon runs.
// Everything below mu is guarded by it; mu is never held across I/O other than
// saving the state. op orders the operations that change what a container is
// (start, the handling of its end, removal, rename, update); it is held across slow
// work and taken before mu, and before the Service's lock.
type entry struct {
	id       string
	dir      string // data-root/containers/ID
	layers   string // what has its writable layer: dir, or that of the container that it debugs
	execDir  string // exec-root/containers/ID
	records  *meta.Dir[record]
	states   *meta.Dir[state]
	volatile bool // record lives in exec-root
	op       lock

	copies   sync.WaitGroup // the daemon's descriptors of a run's sockets are being closed; with op held
	compress sync.Mutex     // one compression of logs at a time
	telling  sync.Mutex     // from a signal until it was told of: the end is told of later

	mu  sync.Mutex
	rec record
	st  state

	booted     chan struct{} // nil, or closed when the start at boot was tried; never changed after Open
	lower      []string      // overlay's lower directories, top first
	lowerErr   error         // why they are not known; changed with op held
	task       runtime.Task
	spec       *specs.Spec   // of the run that is on; nil after a restart of the daemon
	ending     runtime.Task  // the run whose end is being told of
	ended      chan struct{} // closed when the run that is on has ended
	cleaned    chan struct{} // closed when the run before was cleaned up, or nil
	pending    []*attachment // attached before the start
	waiters    []chan waited // for the end of the run
	gone       []chan waited // for the removal
	changed    chan struct{} // closed and replaced at each change of state
	removing   bool          // a removal is on
	removed    bool          // not in the Service any more
	restarting int           // a restart by a user is on: no automatic removal, no policy
	backoff    backoff       // between restarts by policy
	timer      *restartTimer // set while waiting for a restart by policy
	stopHealth func()        // ends the health checks of the run
	asked      []Asked       // signals sent to the run that is on
	execs      map[string]*exec
	writers    map[*writer]struct{} // who copies files into the run that is on, or was
	loan       *loan                // its files are a debug session's
}

// lock is a mutex whose waiters can give up.
type lock chan struct{}

func newLock() lock { return make(lock, 1) }

func (l lock) release() { <-l }

// snapshot copies record and state for reading outside the lock. What they point
// to is never changed in place, only replaced.
func (c *entry) snapshot() (record, state) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rec, c.st
}

func (c *entry) name() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rec.Name
}

// notify wakes up who waits for a change of state. mu is held.
func (c *entry) notify() {
	close(c.changed)
	c.changed = make(chan struct{})
}
