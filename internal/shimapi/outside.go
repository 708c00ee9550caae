package shimapi

// Command is a call of another OCI runtime, as which the container's own process is
// not ours: Args begin with the program's name. What the call leaves running has
// its pid in PidFile and, where it has a terminal, sends that to Console, a socket's
// name in the container's folder, which the shim makes.
type Command struct {
	Path    string
	Args    []string
	PidFile string
	Console string
	Log     string // where the runtime writes what went wrong
}

func (m *Command) fields(c *coder) {
	c.string(&m.Path)
	c.strings(&m.Args)
	c.string(&m.PidFile)
	c.string(&m.Console)
	c.string(&m.Log)
}

// Outside is how another OCI runtime makes a container, in Start.
type Outside struct {
	Create, Start Command
}

func (m *Outside) fields(c *coder) {
	c.message(m.Create.fields)
	c.message(m.Start.fields)
}
