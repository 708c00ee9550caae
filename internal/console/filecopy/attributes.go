package filecopy

import (
	"archive/tar"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// xattrKey begins the names of PAX records that hold extended attributes.
const xattrKey = "SCHILY.xattr."

// carried says which extended attributes a copy takes along, as the engine does: what
// a program may do, and what its owner wrote.
func carried(name string) bool {
	return name == "security.capability" || strings.HasPrefix(name, "user.") && !strings.ContainsAny(name, "=\x00")
}

// addAttributes reads the extended attributes of an open file into its header. File
// systems without any have none.
func addAttributes(f *os.File, h *tar.Header) error {
	list, err := attribute(func(b []byte) (int, error) { return unix.Flistxattr(int(f.Fd()), b) })
	if err != nil {
		return fmt.Errorf("list attributes of %s: %w", f.Name(), err)
	}
	for name := range strings.SplitSeq(string(list), "\x00") {
		if !carried(name) {
			continue
		}
		value, err := attribute(func(b []byte) (int, error) { return unix.Fgetxattr(int(f.Fd()), name, b) })
		if err != nil {
			return fmt.Errorf("read attribute %s of %s: %w", name, f.Name(), err)
		}
		if h.PAXRecords == nil {
			h.PAXRecords = make(map[string]string)
		}
		h.PAXRecords[xattrKey+name] = string(value)
	}
	return nil
}

// attribute calls get for the size and for the content.
func attribute(get func([]byte) (int, error)) ([]byte, error) {
	n, err := get(nil)
	if n == 0 || err != nil {
		return nil, ignoreAbsent(err)
	}
	b := make([]byte, n)
	if n, err = get(b); err != nil {
		return nil, ignoreAbsent(err)
	}
	return b[:n], nil
}

func ignoreAbsent(err error) error {
	if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.ENODATA) || errors.Is(err, unix.EPERM) {
		return nil
	}
	return err
}

// setAttributes gives a file the extended attributes of its header, after its owner:
// chown takes capabilities away. Who may not set one does without, as Docker's client.
func setAttributes(f *os.File, h *tar.Header) error {
	for key, value := range h.PAXRecords {
		name, ok := strings.CutPrefix(key, xattrKey)
		if !ok || !carried(name) {
			continue
		}
		if err := ignoreAbsent(unix.Fsetxattr(int(f.Fd()), name, []byte(value), 0)); err != nil {
			return fmt.Errorf("set attribute %s: %w", name, err)
		}
	}
	return nil
}

// unpackNode makes a named pipe or a device. The folder that it is made in is an open
// one below root.
func unpackNode(root *os.Root, h *tar.Header, target string, archive bool) error {
	kind := map[byte]uint32{tar.TypeFifo: unix.S_IFIFO, tar.TypeChar: unix.S_IFCHR, tar.TypeBlock: unix.S_IFBLK}[h.Typeflag]
	if kind == 0 {
		return fmt.Errorf("files of type %q are not supported", h.Typeflag)
	}
	if err := root.Remove(target); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	dir, err := root.Open(path.Dir(target))
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	device := unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))
	if err := unix.Mknodat(int(dir.Fd()), path.Base(target), kind|0o600, int(device)); err != nil {
		return err
	}
	if archive {
		if err := root.Lchown(target, h.Uid, h.Gid); err != nil {
			return err
		}
	}
	if err := root.Chmod(target, h.FileInfo().Mode()&modeBits); err != nil {
		return err
	}
	return root.Chtimes(target, h.ModTime, h.ModTime)
}
