package shimapi

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
	TypeLogged   Type = 28
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
	Logged    Logged // of the container's process only
}

// Logged counts what of a container's output was not kept as it came.
type Logged struct {
	Partial   uint64 // pieces of lines longer than an entry may be
	Unread    uint64 // reads from the container's output that failed
	Unwritten uint64 // entries that no file or service took
}

func (m *Logged) fields(c *coder) {
	unsigned(c, &m.Partial)
	unsigned(c, &m.Unread)
	unsigned(c, &m.Unwritten)
}

func (m *Exited) fields(c *coder) {
	c.string(&m.Process)
	c.bool(&m.Ended)
	integer(c, &m.Code)
	integer(c, &m.Signal)
	integer(c, &m.At)
	c.bool(&m.OOMKilled)
	c.message(m.Logged.fields)
}

// Reply answers a request. Code 0 is success; 125 to 128 are what a StartError
// carries; CodeGone says that the process has ended; CodeFailed is any other failure.
type Reply struct {
	Code   int
	Error  string
	State  State    // of Start
	Pid    int      // of Exec
	Names  []string // of Held, one per descriptor
	Execs  []Execed // of Execs
	Logged Logged   // of Logged
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
	c.message(m.Logged.fields)
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

// UnknownRequest begins the text with which a shim refuses what it does not know.
const UnknownRequest = "the shim does not know request "

// Empty has no fields: Held, NetNS, Execs, Logged and Shutdown.
type Empty struct{}

func (*Empty) fields(*coder) {}
