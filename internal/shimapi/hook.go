package shimapi

// Hook is one program of an OCI document's hooks.
type Hook struct {
	Path    string
	Args    []string
	Env     []string
	Timeout int // seconds, 0: none
}

func (m *Hook) fields(c *coder) {
	c.string(&m.Path)
	c.strings(&m.Args)
	c.strings(&m.Env)
	integer(c, &m.Timeout)
}

// Hooks are the programs that accompany a start, by the runtime specification's
// section "POSIX-platform Hooks". Those of the container's end are the daemon's.
type Hooks struct {
	Prestart, CreateRuntime []Hook // beside the shim, when the container's file system is made
	CreateContainer         []Hook // then, in the container's namespaces, with the host's files
	StartContainer          []Hook // in the container, as its own process would run, right before that
	Poststart               []Hook // beside the shim, when the program runs
	// State is the JSON that they read, without its end: status and pid follow.
	State []byte
	// Dir is the working directory of those beside the shim.
	Dir string
}

// Before tells whether the program's start has to wait for any.
func (m *Hooks) Before() bool {
	return len(m.Prestart)+len(m.CreateRuntime)+len(m.CreateContainer)+len(m.StartContainer) > 0
}

func (m *Hooks) fields(c *coder) {
	for _, all := range []*[]Hook{&m.Prestart, &m.CreateRuntime, &m.CreateContainer, &m.StartContainer, &m.Poststart} {
		list(c, all, func(c *coder, h *Hook) { c.message(h.fields) })
	}
	c.bytes(&m.State)
	c.string(&m.Dir)
}
