package shimapi

// StageName is the first argument under which the shim's binary is a container's
// first process before the user's program, for muelle-oci: where creation and
// start are two commands, something has to wait in between.
const StageName = "muelle-oci-stage"

// What a stage and its creator tell each other. Stage comes first; the stage asks
// with TypeHooks for the hooks of the creator's side and gets the same type back;
// TypeCreated, with the terminal's master side if there is one, ends it. A Reply
// instead of either is a failure. On the socket for the start a stage says nothing:
// its end is the exec's success, a Reply its failure.
const (
	TypeStage   Type = 32
	TypeHooks   Type = 33
	TypeCreated Type = 34
)

// Stage is what a stage does. Its descriptors are the trees of those mounts that
// are Passed, in order, first those of the root file system.
type Stage struct {
	Start       Start
	CreateHooks []Hook // in the container's namespaces, before its root is "/"
	StartHooks  []Hook // in the container, right before its program
	CreateState []byte // JSON, what those hooks read
	StartState  []byte
	NoPivot     bool
	Remapped    bool // the stage runs in a user namespace of the container's own
	Detached    bool // the mount namespace is others', too: nothing is attached in it
}

func (m *Stage) fields(c *coder) {
	c.message(m.Start.fields)
	list(c, &m.CreateHooks, func(c *coder, h *Hook) { c.message(h.fields) })
	list(c, &m.StartHooks, func(c *coder, h *Hook) { c.message(h.fields) })
	c.bytes(&m.CreateState)
	c.bytes(&m.StartState)
	c.bool(&m.NoPivot)
	c.bool(&m.Remapped)
	c.bool(&m.Detached)
}

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
