package oci

import (
	"slices"
	"strconv"
	"strings"

	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Security is what --security-opt asks for.
type Security struct {
	NoNewPrivileges       bool
	SystemPathsUnconfined bool
	// SeccompProfile is JSON, "unconfined", or empty for the default.
	SeccompProfile string
	// AppArmor is a profile's name, "unconfined", or empty for the default.
	AppArmor string
	// Labels are SELinux's options: "disable", "type:…", "level:…".
	Labels []string
	// WritableCgroups: nil leaves it to whether the container is privileged.
	WritableCgroups *bool
}

// Modules are the security modules of the host's kernel that can be used.
type Modules struct {
	AppArmor, SELinux bool
}

// ParseSecurityOpt reads HostConfig.SecurityOpt: key=value, of old also key:value.
// A profile of AppArmor is an error where the kernel does not enforce it; labels of
// SELinux are left out there, as Docker does, because people carry them from host to
// host in scripts that are to work without.
func ParseSecurityOpt(options []string, have Modules) (Security, error) {
	var s Security
	for _, opt := range options {
		if err := s.parse(opt, have); err != nil {
			return s, err
		}
	}
	if !have.SELinux {
		s.Labels = nil
	}
	return s, nil
}

func (s *Security) parse(opt string, have Modules) error {
	key, value, hasValue := strings.Cut(opt, "=")
	if !hasValue {
		key, value, hasValue = strings.Cut(opt, ":")
	}
	on := func() (bool, error) {
		if !hasValue {
			return true, nil
		}
		on, err := strconv.ParseBool(value)
		if err != nil {
			err = invalid("invalid --security-opt 2: %q", opt)
		}
		return on, err
	}
	var err error
	switch {
	case key == "no-new-privileges":
		s.NoNewPrivileges, err = on()
		return err
	case key == "writable-cgroups":
		var writable bool
		writable, err = on()
		s.WritableCgroups = &writable
		return err
	case opt == "disable":
		s.Labels = append(s.Labels, opt)
		return nil
	case !hasValue:
		return invalid("invalid --security-opt 1: %q", opt)
	case key == "seccomp":
		s.SeccompProfile = value
	case key == "label":
		s.Labels = append(s.Labels, value)
	case key == "apparmor":
		if value != AppArmorUnconfined && value != "" && !have.AppArmor {
			return invalid("apparmor=%s: AppArmor is not enabled on this host: leave the option out, or boot with apparmor=1 security=apparmor", value)
		}
		s.AppArmor = value
	case key == "systempaths":
		if value != "unconfined" {
			return invalid("invalid --security-opt: %q", opt)
		}
		s.SystemPathsUnconfined = true
	default:
		return invalid("invalid --security-opt 2: %q", opt)
	}
	return nil
}

// DefaultAppArmor is the profile of containers that ask for none, by Docker's name.
const DefaultAppArmor = "docker-default"

// AppArmorUnconfined stands for no profile.
const AppArmorUnconfined = "unconfined"

// appArmor gives the profile to execute the process under; empty: none.
func (s Security) appArmor(o Options) string {
	switch {
	case !o.Modules.AppArmor:
		return ""
	case s.AppArmor != "":
		return s.AppArmor
	case o.HostConfig.Privileged:
		return AppArmorUnconfined
	case o.AppArmor != "":
		return o.AppArmor
	}
	return DefaultAppArmor
}

// AppArmorProfile gives the profile that a container runs under, as far as its options
// say; empty where the kernel has no AppArmor.
func AppArmorProfile(o Options) string {
	s, err := ParseSecurityOpt(o.HostConfig.SecurityOpt, o.Modules)
	if err != nil {
		return ""
	}
	return s.appArmor(o)
}

// cgroups makes the container's own cgroups writable, or not. On v1 they are not: a
// container could see other hierarchies through them (CVE-2022-0492).
func (s Security) cgroups(doc *specs.Spec, o Options) error {
	if s.WritableCgroups == nil {
		return nil
	}
	if *s.WritableCgroups && !o.HostConfig.Privileged {
		if o.CgroupVersion != 2 {
			return invalid("option writable-cgroups is only supported with cgroup v2")
		}
		if !privateCgroupNS(o) {
			return invalid("option writable-cgroups needs a private cgroup namespace (--cgroupns private)")
		}
	}
	for i := range doc.Mounts {
		m := &doc.Mounts[i]
		if m.Type != "cgroup" {
			continue
		}
		m.Options = slices.DeleteFunc(slices.Clone(m.Options), func(o string) bool { return o == "ro" })
		if !*s.WritableCgroups {
			m.Options = append(m.Options, "ro")
		}
	}
	return nil
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

// CheckSeccomp tells whether a profile can be used, by applying it to a container
// without anything.
func CheckSeccomp(profile string) error {
	if _, err := seccomp.LoadProfile(profile, &specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{}}, Linux: &specs.Linux{}}); err != nil {
		return invalid("invalid seccomp profile: %v", err)
	}
	return nil
}
