package main

import (
	"fmt"
	"log/slog"
	"os"

	"github.com/opencontainers/selinux/go-selinux"

	"muelle/internal/container"
	"muelle/internal/linux/security"
	"muelle/internal/oci"
)

// securityDefaults reads what containers have that ask for nothing themselves, and
// finds the kernel's security modules.
func securityDefaults(c *config, log *slog.Logger) (d container.SecurityDefaults, err error) {
	d.NoNewPrivileges = c.NoNewPrivileges
	d.LoadAppArmor = loadAppArmor
	if d.Seccomp, err = seccompDefault(c.SeccompProfile); err != nil {
		return d, err
	}
	d.Modules.AppArmor = security.AppArmor("/")
	if d.AppArmor, err = appArmorDefault(c.AppArmorProfile, d.Modules.AppArmor); err != nil {
		return d, err
	}
	if withoutParser(c, d) {
		log.Warn(noParser)
	}
	switch {
	case !c.SELinuxEnabled:
		selinux.SetDisabled()
	case security.SELinux("/"):
		d.Modules.SELinux = true
	default:
		log.Warn("selinux-enabled: SELinux is not enabled on this host, so labels have no effect")
	}
	return d, nil
}

// seccompDefault reads the profile of seccomp-profile; empty is the built-in one.
func seccompDefault(profile string) (string, error) {
	switch profile {
	case "", "builtin", "default":
		return "", nil
	case "unconfined":
		return profile, nil
	}
	b, err := os.ReadFile(profile)
	if err != nil {
		return "", fmt.Errorf("opening seccomp profile (%s) failed: %w", profile, err)
	}
	if err := oci.CheckSeccomp(string(b)); err != nil {
		return "", fmt.Errorf("seccomp profile %s: %w", profile, err)
	}
	return string(b), nil
}

// securityOptions are the daemon's part of what info shows.
func securityOptions(c *config, d container.SecurityDefaults) []string {
	var out []string
	if d.Modules.AppArmor && !withoutParser(c, d) {
		out = append(out, "name=apparmor")
	}
	profile := c.SeccompProfile
	if profile == "" || profile == "default" {
		profile = "builtin"
	}
	out = append(out, "name=seccomp,profile="+profile)
	if d.Modules.SELinux {
		out = append(out, "name=selinux")
	}
	if c.UsernsRemap != "" {
		out = append(out, "name=userns")
	}
	if c.NoNewPrivileges {
		out = append(out, "name=no-new-privileges")
	}
	return out
}
