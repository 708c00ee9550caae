package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/profiles/apparmor"

	"muelle/internal/container"
	"muelle/internal/linux/security"
	"muelle/internal/oci"
)

const noParser = "AppArmor is enabled, but apparmor_parser is not installed: containers that name no profile run without one"

// appArmorDefault gives the profile of containers that name none: the option's, or
// Docker's. Without the program that compiles profiles that one cannot be loaded, and
// unless it is, containers run without, as Docker's do.
func appArmorDefault(option string, enabled bool) (string, error) {
	switch {
	case !enabled && option != "" && option != oci.DefaultAppArmor && option != oci.AppArmorUnconfined:
		return "", errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("apparmor-profile %s: AppArmor is not enabled on this host", option))
	case !enabled, option == oci.AppArmorUnconfined:
		return option, nil
	case option != "":
		if err := loadAppArmor(option); err != nil {
			return "", fmt.Errorf("apparmor-profile: %w", err)
		}
		return option, nil
	}
	if dir := security.AppArmorParser("/"); dir != "" {
		return oci.DefaultAppArmor, reachable(dir)
	}
	if loaded, err := apparmor.IsLoaded(oci.DefaultAppArmor); err != nil || !loaded {
		return oci.AppArmorUnconfined, nil
	}
	return oci.DefaultAppArmor, nil
}

// reachable makes the parser one of the daemon's programs: who became root by su has
// no sbin in the PATH.
func reachable(dir string) error {
	if _, err := exec.LookPath("apparmor_parser"); err == nil {
		return nil
	}
	return os.Setenv("PATH", strings.TrimPrefix(os.Getenv("PATH")+":"+dir, ":"))
}

// loadAppArmor makes sure that a profile is loaded. Docker's is loaded here, each time
// that something has unloaded it.
func loadAppArmor(profile string) error {
	// A namespace or a stack of profiles is for the kernel to judge.
	if profile == oci.AppArmorUnconfined || strings.HasPrefix(profile, ":") || strings.Contains(profile, "//") {
		return nil
	}
	loaded, err := apparmor.IsLoaded(profile)
	switch {
	case err != nil:
		return fmt.Errorf("look for the AppArmor profile %q: %w", profile, err)
	case loaded:
		return nil
	case profile != oci.DefaultAppArmor:
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("AppArmor profile %q is not loaded on this host: load it with apparmor_parser -r FILE, or leave the option out", profile))
	}
	if err := apparmor.InstallDefault(profile); err != nil {
		return fmt.Errorf("AppArmor enabled on system but the %s profile could not be loaded: %w", profile, err)
	}
	return nil
}

// withoutParser tells that containers run without a profile which nobody asked for.
func withoutParser(c *config, d container.SecurityDefaults) bool {
	return d.Modules.AppArmor && d.AppArmor == oci.AppArmorUnconfined && c.AppArmorProfile == ""
}

// securityWarnings are for info.
func securityWarnings(c *config, d container.SecurityDefaults) []string {
	if withoutParser(c, d) {
		return []string{"WARNING: " + noParser}
	}
	return nil
}

// buildProfile gives the profile of a build's steps, which is the default one.
func buildProfile(d container.SecurityDefaults) (string, error) {
	if !d.Modules.AppArmor {
		return "", nil
	}
	return d.AppArmor, loadAppArmor(d.AppArmor)
}
