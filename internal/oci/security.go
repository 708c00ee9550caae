package oci

import (
	"os"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Security is what --security-opt asks for.
type Security struct {
	NoNewPrivileges       bool
	SystemPathsUnconfined bool
	// SeccompProfile is JSON, "unconfined", or empty for the default.
	SeccompProfile string
}

// ParseSecurityOpt reads HostConfig.SecurityOpt: key=value, of old also key:value.
// An option for a security module that this kernel lacks is an error unless it
// asks for no confinement.
func ParseSecurityOpt(options []string) (Security, error) {
	var s Security
	for _, opt := range options {
		key, value, hasValue := strings.Cut(opt, "=")
		if !hasValue {
			key, value, hasValue = strings.Cut(opt, ":")
		}
		switch key {
		case "no-new-privileges":
			s.NoNewPrivileges = true
			if hasValue {
				on, err := strconv.ParseBool(value)
				if err != nil {
					return s, invalid("invalid --security-opt 2: %q", opt)
				}
				s.NoNewPrivileges = on
			}
		case "seccomp":
			s.SeccompProfile = value
		case "apparmor":
			if value != "unconfined" && value != "" {
				if !kernelHas("/sys/module/apparmor") {
					return s, invalid("apparmor=%s: this kernel has no AppArmor", value)
				}
				return s, errdefs.ErrNotImplemented.WithMessage("--security-opt apparmor=" + value + ": AppArmor profiles are not supported")
			}
		case "label":
			if value != "disable" {
				if !kernelHas("/sys/fs/selinux/enforce") {
					return s, invalid("label=%s: SELinux is not enabled on this host", value)
				}
				return s, errdefs.ErrNotImplemented.WithMessage("--security-opt label=" + value + ": SELinux labels are not supported")
			}
		case "systempaths":
			if value != "unconfined" {
				return s, invalid("invalid --security-opt: %q", opt)
			}
			s.SystemPathsUnconfined = true
		case "writable-cgroups":
			return s, errdefs.ErrNotImplemented.WithMessage("--security-opt writable-cgroups is not supported")
		default:
			return s, invalid("invalid --security-opt 2: %q", opt)
		}
		if !hasValue && key != "no-new-privileges" {
			return s, invalid("invalid --security-opt 1: %q", opt)
		}
	}
	return s, nil
}

func kernelHas(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// seccomp gives the filter for the container's capabilities: the same profile
// allows more system calls to a container that holds more capabilities.
func (s Security) seccomp(doc *specs.Spec, o Options) (*specs.LinuxSeccomp, error) {
	profile := s.SeccompProfile
	if profile == "" && !o.HostConfig.Privileged {
		profile = o.Seccomp
	}
	switch {
	case profile == "unconfined", o.HostConfig.Privileged && s.SeccompProfile == "":
		return nil, nil
	case profile == "" || profile == "builtin" || profile == "default":
		return seccomp.GetDefaultProfile(doc)
	}
	filter, err := seccomp.LoadProfile(profile, doc)
	if err != nil {
		return nil, invalid("invalid seccomp profile: %v", err)
	}
	return filter, nil
}
