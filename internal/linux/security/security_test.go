package security_test

import (
	"os"
	"path/filepath"
	"testing"

	"muelle/internal/linux/security"
)

func write(t *testing.T, root, name, data string, mode os.FileMode) {
	t.Helper()
	path := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(data), mode); err != nil {
		t.Fatal(err)
	}
}

func TestModules(t *testing.T) {
	none, all, off := t.TempDir(), t.TempDir(), t.TempDir()
	write(t, all, "sys/module/apparmor/parameters/enabled", "Y\n", 0o444)
	write(t, off, "sys/module/apparmor/parameters/enabled", "N\n", 0o444)
	write(t, all, "sys/fs/selinux/enforce", "1", 0o444)
	write(t, all, "usr/sbin/apparmor_parser", "", 0o755)
	write(t, off, "usr/sbin/apparmor_parser", "", 0o644)
	write(t, all, "proc/self/attr/apparmor/exec", "", 0o644)
	write(t, all, "sys/kernel/security/apparmor/profiles", "", 0o444)
	write(t, off, "sys/kernel/security/apparmor/profiles", "", 0o444)
	for root, want := range map[string]bool{none: false, all: true, off: false} {
		if security.AppArmor(root) != want || security.SELinux(root) != want || security.AppArmorParser(root) == "" == want {
			t.Errorf("AppArmor %t, SELinux %t, parser %q, want %t", security.AppArmor(root), security.SELinux(root), security.AppArmorParser(root), want)
		}
	}
	if got := security.AppArmorParser(all); got != "/usr/sbin" {
		t.Errorf("parser in %q", got)
	}
	unmounted := t.TempDir()
	write(t, unmounted, "usr/sbin/apparmor_parser", "", 0o755)
	if got := security.AppArmorParser(unmounted); got != "" {
		t.Errorf("without securityfs, parser in %q", got)
	}
	if got := security.AppArmorFile(all); got != "apparmor/exec" {
		t.Errorf("got %s", got)
	}
	if got := security.AppArmorFile(none); got != "exec" {
		t.Errorf("got %s", got)
	}
}
