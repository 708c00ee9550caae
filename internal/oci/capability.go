package oci

import (
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/sys/capability"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// defaultCapabilities is Docker's set.
var defaultCapabilities = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID",
	"CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
}

// allCapabilities gives those that this kernel knows and this process may pass on.
func allCapabilities() []string {
	supported, err := capability.ListSupported()
	if err != nil {
		supported = capability.ListKnown()
	}
	var names []string
	for _, c := range supported {
		if held, err := capability.GetBound(c); err == nil && held {
			names = append(names, "CAP_"+strings.ToUpper(c.String()))
		}
	}
	return names
}

// capabilities applies --cap-add and --cap-drop: with "ALL" added, the drops are
// taken from everything; with "ALL" dropped, only the adds remain.
func capabilities(h *container.HostConfig) ([]string, error) {
	if h.Privileged {
		return allCapabilities(), nil
	}
	add, err := normalizeCapabilities(h.CapAdd)
	if err != nil {
		return nil, err
	}
	drop, err := normalizeCapabilities(h.CapDrop)
	if err != nil {
		return nil, err
	}
	var caps []string
	switch {
	case slices.Contains(add, "ALL"):
		caps = allCapabilities()
	case slices.Contains(drop, "ALL"):
		caps = add
	default:
		caps = slices.Clone(defaultCapabilities)
		for _, c := range add {
			if !slices.Contains(caps, c) {
				caps = append(caps, c)
			}
		}
	}
	return slices.DeleteFunc(caps, func(c string) bool { return slices.Contains(drop, c) }), nil
}

func normalizeCapabilities(names []string) ([]string, error) {
	var caps []string
	known := capability.ListKnown()
	for _, name := range names {
		c := strings.ToUpper(name)
		if c == "ALL" {
			caps = append(caps, c)
			continue
		}
		c = strings.TrimPrefix(c, "CAP_")
		if !slices.ContainsFunc(known, func(k capability.Cap) bool { return strings.ToUpper(k.String()) == c }) {
			return nil, invalid("invalid capability: %q", name)
		}
		caps = append(caps, "CAP_"+c)
	}
	return caps, nil
}

// ownCapabilities mean in a user namespace what they mean outside it: they are over
// the container's own processes, files and network.
var ownCapabilities = append(slices.Clone(defaultCapabilities), "CAP_NET_ADMIN", "CAP_NET_BROADCAST", "CAP_SYS_PTRACE")

// OnlyOverNetwork tells whether a container may change its network and has no
// capability that only the host's user namespace gives.
func OnlyOverNetwork(h *container.HostConfig) bool {
	if len(h.CapAdd) == 0 {
		return false
	}
	caps, err := capabilities(h)
	return err == nil && slices.Contains(caps, "CAP_NET_ADMIN") && OnlyOverItself(h)
}

// OnlyOverItself tells whether a container has no capability that only the host's user
// namespace gives.
func OnlyOverItself(h *container.HostConfig) bool {
	caps, err := capabilities(h)
	return err == nil && !h.Privileged && !slices.ContainsFunc(caps, func(c string) bool { return !slices.Contains(ownCapabilities, c) })
}

// effective gives root everything in the bounding set and others nothing beyond
// it: their programs may gain capabilities by file only. The inheritable and
// ambient sets stay empty (CVE-2022-29162).
func effective(caps []string, uid uint32) *specs.LinuxCapabilities {
	set := &specs.LinuxCapabilities{Bounding: caps}
	if uid == 0 {
		set.Effective, set.Permitted = caps, caps
	}
	return set
}
