package ocirun

import (
	"github.com/opencontainers/runtime-spec/specs-go"

	"muelle/internal/runtime/native"
)

// hooks are those of one kind.
func (r *record) hooks(kind string) []specs.Hook { return native.HooksByKind(r.Config.Hooks)[kind] }

// runHooks runs the hooks of a kind in this process's namespaces; the first failure
// ends it.
func (r *record) runHooks(kind string, status specs.ContainerState) error {
	return native.RunHooks(kind, r.hooks(kind), r.state(status), r.Bundle)
}
