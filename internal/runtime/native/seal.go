package native

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"muelle/internal/atomicfile"
	"muelle/internal/shimapi"
	"muelle/internal/shimfile"
)

// beyond is greater than every number at which a child of ours finds a descriptor.
const beyond = 16

// SealFile copies the shim's program out of a file into memory that no container can
// overwrite: what the file carries, or all of it (see shimfile).
func SealFile(path string) (*os.File, error) { return sealFile(path, "") }

func sealFile(path, label string) (*os.File, error) {
	src, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open the shim: %w", err)
	}
	defer src.Close()
	st, err := src.Stat()
	if err != nil {
		return nil, fmt.Errorf("open the shim: %w", err)
	}
	p, err := shimfile.Find(src, st.Size())
	if err == nil {
		err = p.Verify(src)
	}
	if err != nil {
		return nil, fmt.Errorf("the shim %s %w", path, err)
	}
	return seal(src, p, label)
}

// Seal copies a part of a file into memory that no container can overwrite.
func Seal(src *os.File, p shimfile.Program) (*os.File, error) { return seal(src, p, "") }

// seal makes the copy. All shims of this daemon share its pages.
func seal(src *os.File, p shimfile.Program, label string) (*os.File, error) {
	low, err := unix.MemfdCreate(shimapi.BinaryName, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("make memory for the shim: %w", err)
	}
	// A child puts its first descriptors in their places before it executes this one.
	fd, err := unix.FcntlInt(uintptr(low), unix.F_DUPFD_CLOEXEC, beyond)
	unix.Close(low)
	if err != nil {
		return nil, fmt.Errorf("make memory for the shim: %w", err)
	}
	f := os.NewFile(uintptr(fd), shimapi.BinaryName)
	for at, end := p.Offset, p.Offset+p.Size; at < end; {
		// By one call where io.Copy takes a hundred and more.
		n, err := unix.Sendfile(fd, int(src.Fd()), &at, int(end-at))
		if err == unix.EINTR {
			continue
		}
		if err == nil && n == 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("copy the shim: %w", err)
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

// WriteShim writes the shim's program as a file of its own, replacing what is there.
func (r *Runtime) WriteShim(path string) error {
	st, err := r.binary.Stat()
	if err != nil {
		return fmt.Errorf("copy the shim: %w", err)
	}
	data := make([]byte, st.Size())
	if _, err := r.binary.ReadAt(data, 0); err != nil {
		return fmt.Errorf("copy the shim: %w", err)
	}
	if err := atomicfile.WriteNoSync(path, data, 0o755); err != nil || r.label == "" {
		return err
	}
	if err := unix.Lsetxattr(path, "security.selinux", []byte(r.label), 0); err != nil {
		return fmt.Errorf("label %s %s: %w", path, r.label, err)
	}
	return nil
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
