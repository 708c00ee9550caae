package api

// DebugRequest is the body of POST /muelle/v1/containers/NAME/debug. The answer is that
// of POST /containers/NAME/exec: the session is started, attached to and resized as an
// exec is.
type DebugRequest struct {
	// Image has the tools: programs that are statically linked, a shell among them.
	Image string
	// Cmd is the program of the session; "sh" where it is empty.
	Cmd []string
	Env []string `json:",omitempty"`
	// User as exec has it; root where it is empty.
	User       string `json:",omitempty"`
	WorkingDir string `json:",omitempty"`
	Tty, Stdin bool
	// Confined leaves the session the container's capabilities and its seccomp filter.
	Confined    bool     `json:",omitempty"`
	ConsoleSize *[2]uint `json:",omitempty"`
}
