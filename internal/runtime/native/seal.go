package native

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"muelle/internal/shimapi"
)

// seal copies the shim's binary into memory that nobody can change. All shims of
// this daemon share its pages.
func seal(path, label string) (*os.File, error) {
	src, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open the shim: %w", err)
	}
	defer src.Close()
	fd, err := unix.MemfdCreate(shimapi.BinaryName, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("make memory for the shim: %w", err)
	}
	f := os.NewFile(uintptr(fd), shimapi.BinaryName)
	for {
		// By one call where io.Copy takes a hundred and more.
		n, err := unix.Sendfile(fd, int(src.Fd()), nil, 1<<30)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("copy the shim: %w", err)
		}
		if n == 0 {
			break
		}
	}
	if label != "" {
		if err := unix.Fsetxattr(fd, "security.selinux", []byte(label), 0); err != nil {
			f.Close()
			return nil, fmt.Errorf("label the shim %s: %w", label, err)
		}
	}
	const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		f.Close()
		return nil, fmt.Errorf("seal the shim: %w", err)
	}
	return f, nil
}

// checkKernel names what the kernel lacks. Each call is made so that it fails for
// another reason where it exists.
func checkKernel() error {
	lacks := func(call, since string) error {
		return fmt.Errorf("the kernel lacks %s: Linux %s or newer is needed", call, since)
	}
	if _, err := unix.Openat2(-1, "x", &unix.OpenHow{}); err == unix.ENOSYS {
		return lacks("openat2", "5.6")
	}
	if fd, err := unix.PidfdOpen(os.Getpid(), 0); err != nil {
		return lacks("pidfd_open", "5.3")
	} else {
		unix.Close(fd)
	}
	return nil
}
