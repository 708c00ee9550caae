package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/opencontainers/selinux/go-selinux"
	"github.com/opencontainers/selinux/go-selinux/label"

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
		if err := checkLabels(); err != nil {
			return d, err
		}
	default:
		log.Warn("selinux-enabled: SELinux is not enabled on this host, so labels have no effect")
	}
	return d, nil
}

// checkLabels makes sure that the policy knows containers: without, they would run as
// the daemon does, and nobody would be told.
func checkLabels() error {
	const mend = "install the policy container-selinux, or leave selinux-enabled out"
	process, files, err := label.InitLabels(nil)
	if err != nil {
		return fmt.Errorf("selinux-enabled: %w", err)
	}
	if process == "" || files == "" {
		return errors.New("selinux-enabled: the policy in use names no labels for containers (contexts/lxc_contexts below /etc/selinux): " + mend)
	}
	defer selinux.ReleaseLabel(process)
	for _, l := range []string{process, files} {
		if err := selinux.SecurityCheckContext(l); err != nil {
			return fmt.Errorf("selinux-enabled: the policy in use does not know the label %s: %s", l, mend)
		}
	}
	return nil
}

// labelLayers lets containers read the programs that they execute: the kernel asks for
// the label of an image's layer where it maps a file of it anew. What is unpacked
// later inherits the folder's label; the folder itself is labelled last.
func labelLayers(dir string) (label string, err error) {
	//lint:ignore SA1019 it is to go for want of users, and reads what InitLabels has read
	want := selinux.ROFileLabel()
	if want == "" {
		return "", nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	has, err := selinux.FileLabel(dir)
	if err != nil {
		return "", fmt.Errorf("read the label of %s: %w", dir, err)
	}
	if has == want {
		return want, nil
	}
	if err := selinux.Chcon(dir, want, true); err != nil {
		return "", fmt.Errorf("label the layers of images: %w", err)
	}
	return want, nil
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
