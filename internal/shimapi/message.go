package shimapi

import "muelle/internal/logdriver"

// Type tells the messages apart.
type Type uint8

// The messages. A request is answered by one Reply of the same sequence number;
// Hello and Exited come unasked.
const (
	TypeHello    Type = 1
	TypeReply    Type = 2
	TypeExited   Type = 3
	TypeStart    Type = 16
	TypeAttach   Type = 17
	TypeExec     Type = 18
	TypeSignal   Type = 19
	TypeResize   Type = 20
	TypeHeld     Type = 21
	TypeNetNS    Type = 22
	TypeShutdown Type = 23
	TypeExecs    Type = 24
	TypeHold     Type = 25
	TypeLetGo    Type = 26
	TypeDebug    Type = 27
)

// Message is anything that goes into a frame.
type Message interface {
	fields(c *coder)
}

// Encode gives a message's bytes.
func Encode(m Message) []byte {
	c := coder{buf: make([]byte, 0, 256)}
	m.fields(&c)
	return c.buf
}

// Decode reads a message. Strings are copied; byte slices point into b.
func Decode(b []byte, m Message) error {
	c := coder{buf: b, reading: true}
	m.fields(&c)
	return c.err
}

// Hello is what the shim says on every new connection.
type Hello struct {
	Version uint32
	Started bool
	Exit    Exited // of the container's process; Exit.Ended tells whether it ended
	State   State
}

func (m *Hello) fields(c *coder) {
	unsigned(c, &m.Version)
	c.bool(&m.Started)
	c.message(m.Exit.fields)
	c.message(m.State.fields)
}

// State is what the shim records on disk and tells a daemon that comes back.
type State struct {
	Version     uint32
	BootID      string
	ID          string
	CgroupsPath string
	ShimPid     int
	ShimStart   uint64 // field 22 of /proc/PID/stat
	Pid         int
	PidStart    uint64
	StartedAt   int64 // nanoseconds since 1970
	Terminal    bool
}

func (m *State) fields(c *coder) {
	unsigned(c, &m.Version)
	c.string(&m.BootID)
	c.string(&m.ID)
	c.string(&m.CgroupsPath)
	integer(c, &m.ShimPid)
	unsigned(c, &m.ShimStart)
	integer(c, &m.Pid)
	unsigned(c, &m.PidStart)
	integer(c, &m.StartedAt)
	c.bool(&m.Terminal)
}

// Exited tells that a process ended. Process is empty for the container's own.
type Exited struct {
	Process   string
	Ended     bool
	Code      int
	Signal    int
	At        int64
	OOMKilled bool
}

func (m *Exited) fields(c *coder) {
	c.string(&m.Process)
	c.bool(&m.Ended)
	integer(c, &m.Code)
	integer(c, &m.Signal)
	integer(c, &m.At)
	c.bool(&m.OOMKilled)
}

// Reply answers a request. Code 0 is success; 125 to 128 are what a StartError
// carries; CodeGone says that the process has ended; CodeFailed is any other failure.
type Reply struct {
	Code  int
	Error string
	State State    // of Start
	Pid   int      // of Exec
	Names []string // of Held, one per descriptor
	Execs []Execed // of Execs
}

// Codes of Reply beside those of a StartError.
const (
	CodeFailed = 1
	CodeGone   = 2
	CodeLog    = 3 // the service that takes the log cannot be reached; Error says why
)

func (m *Reply) fields(c *coder) {
	integer(c, &m.Code)
	c.string(&m.Error)
	c.message(m.State.fields)
	integer(c, &m.Pid)
	c.strings(&m.Names)
	list(c, &m.Execs, func(c *coder, x *Execed) { c.message(x.fields) })
}

// Execed is an exec that runs, or ended when no daemon was there to be told.
type Execed struct {
	ID     string
	Pid    int
	Record []byte // the daemon's own, as it came with Exec
	Exit   Exited
}

func (m *Execed) fields(c *coder) {
	c.string(&m.ID)
	integer(c, &m.Pid)
	c.bytes(&m.Record)
	c.message(m.Exit.fields)
}

// Start makes the container. Its descriptors follow in this order: one for each
// namespace with Joined, Tasks v1 task files, the v2 cgroup directory if Into,
// those of Attach, one for each of Held, and IDMaps user namespaces.
type Start struct {
	BootID          string
	ID              string
	CgroupsPath     string
	Root            string // the directory on which the root file system is mounted
	Namespaces      []Namespace
	Tasks           int
	Into            bool
	Hostname        string
	Domainname      string
	RootPropagation uint64
	Rootfs          []Mount
	ReadonlyRoot    bool
	Mounts          []Mount
	Devices         []Device
	Links           []Link
	Masked          []string
	Readonly        []string
	Sysctls         []Sysctl
	Process         Process
	OpenStdin       bool
	StdinOnce       bool
	Width, Height   uint16
	Log             logdriver.Config
	Attach          []Attach
	Held            []Held
	Init            bool
	OOMFile         string // counts kills for lack of memory
	KillFile        string // kills the cgroup, or empty
	ProcsFile       string // lists the cgroup's processes
	SharedPID       bool   // the kernel does not end the others with the first process
	// UIDs and GIDs are the map of the user namespace, which is among Namespaces, joined.
	UIDs, GIDs []IDRange
	IDMaps     int     // user namespaces whose maps mounts are shown with
	Outside    Outside // another OCI runtime makes the container: then Rootfs and Process.Terminal count of all that isolates
	// Idle: there is no program. The init alone runs, reaps, and ends with the last exec or
	// with the daemon's connection.
	Idle  bool
	Hooks Hooks
}

func (m *Start) fields(c *coder) {
	c.string(&m.BootID)
	c.string(&m.ID)
	c.string(&m.CgroupsPath)
	c.string(&m.Root)
	list(c, &m.Namespaces, func(c *coder, n *Namespace) { c.message(n.fields) })
	integer(c, &m.Tasks)
	c.bool(&m.Into)
	c.string(&m.Hostname)
	c.string(&m.Domainname)
	unsigned(c, &m.RootPropagation)
	list(c, &m.Rootfs, func(c *coder, n *Mount) { c.message(n.fields) })
	c.bool(&m.ReadonlyRoot)
	list(c, &m.Mounts, func(c *coder, n *Mount) { c.message(n.fields) })
	list(c, &m.Devices, func(c *coder, n *Device) { c.message(n.fields) })
	list(c, &m.Links, func(c *coder, n *Link) { c.message(n.fields) })
	c.strings(&m.Masked)
	c.strings(&m.Readonly)
	list(c, &m.Sysctls, func(c *coder, n *Sysctl) { c.message(n.fields) })
	c.message(m.Process.fields)
	c.bool(&m.OpenStdin)
	c.bool(&m.StdinOnce)
	unsigned(c, &m.Width)
	unsigned(c, &m.Height)
	c.message(func(c *coder) { logFields(c, &m.Log) })
	list(c, &m.Attach, func(c *coder, n *Attach) { c.message(n.fields) })
	list(c, &m.Held, func(c *coder, n *Held) { c.message(n.fields) })
	c.bool(&m.Init)
	c.string(&m.OOMFile)
	c.string(&m.KillFile)
	c.string(&m.ProcsFile)
	c.bool(&m.SharedPID)
	list(c, &m.UIDs, func(c *coder, r *IDRange) { c.message(r.fields) })
	list(c, &m.GIDs, func(c *coder, r *IDRange) { c.message(r.fields) })
	integer(c, &m.IDMaps)
	c.message(m.Outside.fields)
	c.bool(&m.Idle)
	c.message(m.Hooks.fields)
}

func logFields(c *coder, l *logdriver.Config) {
	c.string(&l.Type)
	c.string(&l.Path)
	integer(c, &l.MaxSize)
	integer(c, &l.MaxFile)
	c.bool(&l.Compress)
	c.string(&l.Extra)
	r := &l.Remote
	c.string(&r.Kind)
	c.string(&r.Network)
	c.string(&r.Path)
	c.bytes(&r.Addr)
	unsigned(c, &r.Port)
	unsigned(c, &r.Zone)
	unsigned(c, &r.Format)
	integer(c, &r.Facility)
	c.string(&r.Hostname)
	c.string(&r.Tag)
	c.bytes(&r.Fields)
	c.bool(&r.NonBlocking)
	integer(c, &r.Buffer)
	c.strings(&r.Helper)
	c.bool(&r.Framed)
}

// IDRange maps Size ids of a user namespace, from Container on, to the host's.
type IDRange struct {
	Container, Host, Size uint32
}

func (m *IDRange) fields(c *coder) {
	unsigned(c, &m.Container)
	unsigned(c, &m.Host)
	unsigned(c, &m.Size)
}

// Namespace is one that the container does not share with the host: a new one, or
// one to join, whose descriptor is passed.
type Namespace struct {
	Flag   uint64 // CLONE_NEW…
	Joined bool
}

func (m *Namespace) fields(c *coder) {
	unsigned(c, &m.Flag)
	c.bool(&m.Joined)
}

// Mount is one mount, its options already told apart.
type Mount struct {
	Destination string
	Type        string // empty for a bind
	Source      string
	Bind        bool
	Recursive   bool   // bind: with what is mounted below
	Flags       uint64 // MS_… of the mount itself
	Cleared     uint64 // MS_… to be taken away from a bind
	ROnly       bool   // bind: read-only recursively, as far as the kernel can
	Propagation uint64 // MS_PRIVATE, MS_SLAVE, …, with MS_REC; 0: as it comes
	Options     []string
	Subpath     string // below the source; it never leaves that
	Passed      bool   // bind: its tree comes as a descriptor, ready to be attached
	Tree        int    // that descriptor, for the receiver; not sent
	IDMap       int    // the number, from 1, of the map that ids on disk are shown with; 0: none
	IDMapAll    bool   // what is mounted below too
}

func (m *Mount) fields(c *coder) {
	c.string(&m.Destination)
	c.string(&m.Type)
	c.string(&m.Source)
	c.bool(&m.Bind)
	c.bool(&m.Recursive)
	unsigned(c, &m.Flags)
	unsigned(c, &m.Cleared)
	c.bool(&m.ROnly)
	unsigned(c, &m.Propagation)
	c.strings(&m.Options)
	c.string(&m.Subpath)
	c.bool(&m.Passed)
	integer(c, &m.IDMap)
	c.bool(&m.IDMapAll)
}

// Device is one device node.
type Device struct {
	Path     string
	Mode     uint32 // with the type's bits
	Number   uint64
	UID, GID uint32
}

func (m *Device) fields(c *coder) {
	c.string(&m.Path)
	unsigned(c, &m.Mode)
	unsigned(c, &m.Number)
	unsigned(c, &m.UID)
	unsigned(c, &m.GID)
}

// Link is a symbolic link that is made where nothing is yet.
type Link struct {
	Path, Target string
}

func (m *Link) fields(c *coder) {
	c.string(&m.Path)
	c.string(&m.Target)
}

// Sysctl is a file below /proc/sys and what is written to it.
type Sysctl struct {
	Path, Value string
}

func (m *Sysctl) fields(c *coder) {
	c.string(&m.Path)
	c.string(&m.Value)
}

// Process is what runs.
type Process struct {
	Args, Env   []string
	Cwd         string
	UID, GID    uint32
	Groups      []uint32
	Umask       int // -1: 022
	Bounding    uint64
	Effective   uint64
	Permitted   uint64
	Inheritable uint64
	Ambient     uint64
	NoNewPrivs  bool
	Filter      []byte // seccomp: struct sock_filter one after the other
	FilterFlags uint32
	Rlimits     []Rlimit
	OOMScoreAdj int
	SetOOM      bool
	Terminal    bool
	// Label is written to Attr, a file below /proc/self/attr, right before exec: a
	// profile of AppArmor or a label of SELinux.
	Attr, Label string
	Keep        int    // descriptors beyond the three streams that the program inherits
	Keyring     bool   // keep the session keyring instead of joining a new one
	Personality uint32 // execution domain, where SetDomain
	SetDomain   bool
	Scheduler   []byte // struct sched_attr, or empty
	IOPriority  uint32 // class and level, 0: as it is
}

func (m *Process) fields(c *coder) {
	c.strings(&m.Args)
	c.strings(&m.Env)
	c.string(&m.Cwd)
	unsigned(c, &m.UID)
	unsigned(c, &m.GID)
	list(c, &m.Groups, func(c *coder, g *uint32) { unsigned(c, g) })
	integer(c, &m.Umask)
	unsigned(c, &m.Bounding)
	unsigned(c, &m.Effective)
	unsigned(c, &m.Permitted)
	unsigned(c, &m.Inheritable)
	unsigned(c, &m.Ambient)
	c.bool(&m.NoNewPrivs)
	c.bytes(&m.Filter)
	unsigned(c, &m.FilterFlags)
	list(c, &m.Rlimits, func(c *coder, r *Rlimit) { c.message(r.fields) })
	integer(c, &m.OOMScoreAdj)
	c.bool(&m.SetOOM)
	c.bool(&m.Terminal)
	integer(c, &m.Keep)
	c.bool(&m.Keyring)
	unsigned(c, &m.Personality)
	c.bool(&m.SetDomain)
	c.bytes(&m.Scheduler)
	unsigned(c, &m.IOPriority)
	c.string(&m.Attr)
	c.string(&m.Label)
}

// Rlimit is one resource limit by the kernel's number.
type Rlimit struct {
	Resource   uint32
	Soft, Hard uint64
}

func (m *Rlimit) fields(c *coder) {
	unsigned(c, &m.Resource)
	unsigned(c, &m.Soft)
	unsigned(c, &m.Hard)
}

// Attach connects pipes to a process's streams; one descriptor for each that is
// true, in this order.
type Attach struct {
	Process               string // empty: the container's own
	Stdin, Stdout, Stderr bool
}

func (m *Attach) fields(c *coder) {
	c.string(&m.Process)
	c.bool(&m.Stdin)
	c.bool(&m.Stdout)
	c.bool(&m.Stderr)
}

// Count is how many descriptors the attachment takes.
func (m *Attach) Count() (n int) {
	for _, b := range []bool{m.Stdin, m.Stdout, m.Stderr} {
		if b {
			n++
		}
	}
	return n
}

// Held names a descriptor that the shim keeps; Relay is empty, or the 4 or 16
// bytes of an address, to whose RelayPort connections are relayed.
type Held struct {
	Name      string
	Relay     []byte
	RelayPort uint16
	Datagram  bool
}

func (m *Held) fields(c *coder) {
	c.string(&m.Name)
	c.bytes(&m.Relay)
	unsigned(c, &m.RelayPort)
	c.bool(&m.Datagram)
}

// Hold gives a running container's shim further descriptors to keep, one for each
// of Held, all or none.
type Hold struct {
	Held []Held
}

func (m *Hold) fields(c *coder) {
	list(c, &m.Held, func(c *coder, h *Held) { c.message(h.fields) })
}

// LetGo closes held descriptors; names that are not held are no error.
type LetGo struct {
	Names []string
}

func (m *LetGo) fields(c *coder) { c.strings(&m.Names) }

// Exec starts a further process; its descriptors are those of Attach.
type Exec struct {
	ID            string
	Process       Process
	OpenStdin     bool
	Unconfined    bool // no seccomp filter; otherwise the container's own
	Width, Height uint16
	Attach        []Attach // none or one
	Record        []byte   // kept for a daemon that comes back
	Outside       Command  // another OCI runtime starts it
	// Tasks and Into are as in Start, for a cgroup that the shim did not make; their
	// descriptors come after those of Attach.
	Tasks int
	Into  bool
}

func (m *Exec) fields(c *coder) {
	c.string(&m.ID)
	c.message(m.Process.fields)
	c.bool(&m.OpenStdin)
	c.bool(&m.Unconfined)
	unsigned(c, &m.Width)
	unsigned(c, &m.Height)
	list(c, &m.Attach, func(c *coder, n *Attach) { c.message(n.fields) })
	c.bytes(&m.Record)
	c.message(m.Outside.fields)
	integer(c, &m.Tasks)
	c.bool(&m.Into)
}

// UnknownRequest begins the text with which a shim refuses what it does not know.
const UnknownRequest = "the shim does not know request "

// Debug starts a further process that sees one mount more than the container: a copy of
// the container's mount namespace is its own. It and all that it started end with it, and
// with the connection that asked for it. The tree to mount is the last descriptor.
type Debug struct {
	Exec Exec
	At   string // a directory of the container that exists
	// Target, unless empty, is a directory of the tree: the tree becomes the root directory
	// of the process, and the container's files are there.
	Target string
	// Tasks and Into are the container's control groups, as in Start, for a container whose
	// shim does not have them. They come before the tree.
	Tasks int
	Into  bool
}

func (m *Debug) fields(c *coder) {
	c.message(m.Exec.fields)
	c.string(&m.At)
	c.string(&m.Target)
	integer(c, &m.Tasks)
	c.bool(&m.Into)
}

// Signal sends one to a process.
type Signal struct {
	Process string
	Signal  int
}

func (m *Signal) fields(c *coder) {
	c.string(&m.Process)
	integer(c, &m.Signal)
}

// Resize sets the size of a process's terminal.
type Resize struct {
	Process       string
	Width, Height uint16
}

func (m *Resize) fields(c *coder) {
	c.string(&m.Process)
	unsigned(c, &m.Width)
	unsigned(c, &m.Height)
}

// Empty has no fields: Held, NetNS, Execs and Shutdown.
type Empty struct{}

func (*Empty) fields(*coder) {}
