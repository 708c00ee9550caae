package console_test

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"muelle/internal/console"
)

// What a script holds open when it calls muelle is not the daemon's.
func TestDescriptorsStayHere(t *testing.T) {
	f, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	inherited, err := unix.Dup(int(f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(inherited)
	if err := console.KeepDescriptors(); err != nil {
		t.Fatal(err)
	}
	flags, err := unix.FcntlInt(uintptr(inherited), unix.F_GETFD, 0)
	if err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("descriptor %d would be inherited: %v", inherited, err)
	}
}
