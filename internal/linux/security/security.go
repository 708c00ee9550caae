// Package security knows which security modules the kernel has, and where a process
// writes the profile or label that its next program is to run under. Every question
// takes the root directory that /sys and /proc are looked for in, so that the answers
// can be tested on a kernel that has none of them.
package security

import (
	"os"
	"path/filepath"
)

// AppArmor tells whether the kernel enforces AppArmor's profiles.
func AppArmor(root string) bool {
	b, err := os.ReadFile(filepath.Join(root, "sys/module/apparmor/parameters/enabled"))
	return err == nil && len(b) > 0 && b[0] == 'Y'
}

// AppArmorParser gives the folder of apparmor_parser, the only program that compiles
// profiles; empty: none can be loaded, also because the kernel's securityfs is not mounted.
func AppArmorParser(root string) string {
	if _, err := os.Stat(filepath.Join(root, "sys/kernel/security/apparmor")); err != nil {
		return ""
	}
	for _, dir := range []string{"sbin", "usr/sbin", "usr/local/sbin", "bin", "usr/bin"} {
		if st, err := os.Stat(filepath.Join(root, dir, "apparmor_parser")); err == nil && st.Mode()&0o111 != 0 {
			return "/" + dir
		}
	}
	return ""
}

// SELinux tells whether SELinux is on, enforcing or permissive.
func SELinux(root string) bool {
	_, err := os.Stat(filepath.Join(root, "sys/fs/selinux/enforce"))
	return err == nil
}

// AppArmorFile is where a profile is asked for, below /proc/self/attr: a file of
// AppArmor's own since Linux 5.8, which another module cannot take.
func AppArmorFile(root string) string {
	if _, err := os.Stat(filepath.Join(root, "proc/self/attr/apparmor/exec")); err == nil {
		return "apparmor/exec"
	}
	return "exec"
}
