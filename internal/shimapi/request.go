package shimapi

// Held names a descriptor that the shim keeps; Relay is empty, or the 4 or 16
// bytes of an address, to whose RelayPort connections are relayed.
type Held struct {
	Name      string
	Relay     []byte
	RelayPort uint16
	Datagram  bool
	// Farewell is sent to the kernel's netfilter when the container ends while no daemon
	// is connected.
	Farewell []byte
	// Messages: it is a socket of SCTP.
	Messages bool
}

func (m *Held) fields(c *coder) {
	c.string(&m.Name)
	c.bytes(&m.Relay)
	unsigned(c, &m.RelayPort)
	c.bool(&m.Datagram)
	c.bytes(&m.Farewell)
	c.bool(&m.Messages)
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
