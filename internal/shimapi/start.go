package shimapi

import "muelle/internal/logdriver"

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
