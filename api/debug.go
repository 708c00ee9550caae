package api

// DebugRequest is the body of POST /muelle/v1/containers/NAME/debug, where NAME may be an
// image too. The answer is that
// of POST /containers/NAME/exec: the session is started, attached to and resized as an
// exec is.
type DebugRequest struct {
	// Image has the tools, a shell among them.
	Image string
	// Cmd is the program of the session; "sh" where it is empty.
	Cmd []string
	Env []string `json:",omitempty"`
	// User as exec has it; root where it is empty.
	User       string `json:",omitempty"`
	WorkingDir string `json:",omitempty"`
	Tty, Stdin bool
	// Root says whose files are at /: "container", with the tools beside them, which must
	// be statically linked then, or "tools", with the container's files at /target. Where it
	// is empty the program decides: the tools where it is dynamically linked.
	Root string `json:",omitempty"`
	// Network of what does not run: none where it is empty.
	Network string `json:",omitempty"`
	// Confined leaves the session the container's capabilities and its seccomp filter.
	Confined    bool     `json:",omitempty"`
	ConsoleSize *[2]uint `json:",omitempty"`
}
