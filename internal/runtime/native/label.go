package native

import (
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"muelle/internal/linux/security"
	"muelle/internal/shimapi"
)

// setLabel translates the document's profile of AppArmor or label of SELinux. A
// profile is left out where the kernel enforces none, as a document made elsewhere may
// name it; a label, which separates containers, is not.
func setLabel(out *shimapi.Process, in *specs.Process, root string) error {
	switch {
	case strings.ContainsAny(in.ApparmorProfile+in.SelinuxLabel, "\x00\n"):
		return errdefs.ErrInvalidArgument.WithMessage("invalid character in a security label")
	case in.SelinuxLabel != "":
		if !security.SELinux(root) {
			return errdefs.ErrInvalidArgument.WithMessage("SELinux label given, and SELinux is not enabled on this host")
		}
		out.Attr, out.Label = "exec", in.SelinuxLabel
	case in.ApparmorProfile != "" && security.AppArmor(root):
		out.Attr, out.Label = security.AppArmorFile(root), "exec "+in.ApparmorProfile
	}
	return nil
}

// labelled adds the label that a file system's files have for SELinux, in quotes: the
// label has commas, at which mount(2) parts options.
func labelled(m *shimapi.Mount, label string) {
	if label != "" {
		m.Options = append(m.Options[:len(m.Options):len(m.Options)], `context="`+label+`"`)
	}
}
