package container

import (
	"slices"

	"github.com/containerd/errdefs"
)

// OwnRuntime is the name of the project's own runtime, which is the default unless
// the daemon is told another one.
const OwnRuntime = "muelle"

// ownNames are names under which Docker's users ask for its default runtime; they
// mean the project's own unless the daemon's configuration has one of that name.
var ownNames = []string{OwnRuntime, "runc", "io.containerd.runc.v2"}

// checkRuntime knows the names that a container may ask for.
func (s *Service) checkRuntime(name string) error {
	if name == "" || slices.Contains(ownNames, name) || slices.Contains(s.defaults.Load().Runtimes, name) {
		return nil
	}
	return errdefs.ErrInvalidArgument.WithMessage("unknown or invalid runtime name: " + name)
}

// runtimeOf is the runtime's name in its contract, empty for the project's own.
func (s *Service) runtimeOf(name string) string {
	if slices.Contains(s.defaults.Load().Runtimes, name) {
		return name
	}
	if slices.Contains(ownNames, name) {
		return ""
	}
	return name // configured when the container was made, and no more: the start says so
}
