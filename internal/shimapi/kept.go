package shimapi

// Kept is what a shim hands to itself when it executes its program anew. Its numbers of
// descriptors are the process's own. Both sides are the same program: nothing of it has
// to stay as it is.
type Kept struct {
	State State
	// Start is what exec needs of it, and the log's settings.
	Start              Start
	Tasks              []int
	Into, User, Mounts int // -1: none
	Log                KeptLog
	Logged             Logged
	Processes          []KeptProcess // the first is the container's
	Ended              []Execed
	Conns              []KeptConn
	Held               []KeptHeld
}

func (m *Kept) fields(c *coder) {
	c.message(m.State.fields)
	c.message(m.Start.fields)
	list(c, &m.Tasks, integer)
	integer(c, &m.Into)
	integer(c, &m.User)
	integer(c, &m.Mounts)
	c.message(m.Log.fields)
	c.message(m.Logged.fields)
	list(c, &m.Processes, func(c *coder, p *KeptProcess) { c.message(p.fields) })
	list(c, &m.Ended, func(c *coder, x *Execed) { c.message(x.fields) })
	list(c, &m.Conns, func(c *coder, x *KeptConn) { c.message(x.fields) })
	list(c, &m.Held, func(c *coder, h *KeptHeld) { c.message(h.fields) })
}

// KeptLog is the log's file.
type KeptLog struct {
	FD      int // -1: none
	Next    int // the number of the next rotated file
	Partial uint64
	Lines   []KeptLine
}

func (m *KeptLog) fields(c *coder) {
	integer(c, &m.FD)
	integer(c, &m.Next)
	unsigned(c, &m.Partial)
	list(c, &m.Lines, func(c *coder, l *KeptLine) { c.message(l.fields) })
}

// KeptLine is what a stream gave that has no newline yet.
type KeptLine struct {
	Stream uint8
	Text   []byte
	Since  int64 // nanoseconds since 1970
}

func (m *KeptLine) fields(c *coder) {
	unsigned(c, &m.Stream)
	c.bytes(&m.Text)
	integer(c, &m.Since)
}

// KeptProcess is the container's process, or an exec that runs.
type KeptProcess struct {
	ID            string
	Pid, PidFD    int
	Master, Slave int // of its terminal, or -1
	Record        []byte
	In            KeptStdin
	Outputs       []KeptOutput
}

func (m *KeptProcess) fields(c *coder) {
	c.string(&m.ID)
	integer(c, &m.Pid)
	integer(c, &m.PidFD)
	integer(c, &m.Master)
	integer(c, &m.Slave)
	c.bytes(&m.Record)
	c.message(m.In.fields)
	list(c, &m.Outputs, func(c *coder, o *KeptOutput) { c.message(o.fields) })
}

// KeptStdin is a standard input.
type KeptStdin struct {
	FD        int // -1: none, or closed
	Once, TTY bool
	Feeders   []int
}

func (m *KeptStdin) fields(c *coder) {
	integer(c, &m.FD)
	c.bool(&m.Once)
	c.bool(&m.TTY)
	list(c, &m.Feeders, integer)
}

// KeptOutput is an output.
type KeptOutput struct {
	FD     int // -1: it has ended
	Stream uint8
	Sinks  []int
}

func (m *KeptOutput) fields(c *coder) {
	integer(c, &m.FD)
	unsigned(c, &m.Stream)
	list(c, &m.Sinks, integer)
}

// KeptConn is a daemon's connection.
type KeptConn struct {
	FD   int
	Told bool
}

func (m *KeptConn) fields(c *coder) {
	integer(c, &m.FD)
	c.bool(&m.Told)
}

// KeptHeld is a held descriptor.
type KeptHeld struct {
	FD   int
	Held Held
}

func (m *KeptHeld) fields(c *coder) {
	integer(c, &m.FD)
	c.message(m.Held.fields)
}

// Descriptors are all that Kept speaks of.
func (m *Kept) Descriptors() (all []int) {
	add := func(fds ...int) {
		for _, fd := range fds {
			if fd >= 0 {
				all = append(all, fd)
			}
		}
	}
	add(m.Tasks...)
	add(m.Into, m.User, m.Mounts, m.Log.FD)
	for i := range m.Processes {
		p := &m.Processes[i]
		add(p.PidFD, p.Master, p.Slave, p.In.FD)
		add(p.In.Feeders...)
		for _, o := range p.Outputs {
			if o.FD != p.Master {
				add(o.FD)
			}
			add(o.Sinks...)
		}
	}
	for _, x := range m.Conns {
		add(x.FD)
	}
	for _, h := range m.Held {
		add(h.FD)
	}
	return all
}
