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
// are Passed, in order, first those of the root file system. Of the hooks it runs those
// of the container's namespaces, the others are its creator's.
type Stage struct {
	Start    Start
	NoPivot  bool
	Remapped bool // the stage runs in a user namespace of the container's own
	Detached bool // the mount namespace is others', too: nothing is attached in it
}

func (m *Stage) fields(c *coder) {
	c.message(m.Start.fields)
	c.bool(&m.NoPivot)
	c.bool(&m.Remapped)
	c.bool(&m.Detached)
}

// InitFiles begins the variable in which a container's init is told the soft limit of
// open files that its program shall have; the init hands on all others.
const InitFiles = "MUELLE_INIT_FILES="
