package container

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"path"
	"strings"

	"github.com/containerd/errdefs"
	ctypes "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"golang.org/x/sys/unix"

	"muelle/internal/compressed"
	"muelle/internal/container/archive"
	"muelle/internal/container/rootfs"
)

// ownersOf translates the owners of a container's files between what a view of it shows
// and what the container itself would call them.
func ownersOf(root *rootfs.Root) archive.IDs {
	m := root.IDs()
	if m == nil {
		return archive.IDs{}
	}
	return archive.IDs{
		Out: func(uid, gid uint32) (uint32, uint32) {
			return orNobody(m.ContainerUID(uid)), orNobody(m.ContainerGID(gid))
		},
		In: func(uid, gid uint32) (uint32, uint32) { return orRoot(m.HostUID, uid), orRoot(m.HostGID, gid) },
	}
}

// nobody is whom the kernel shows for an owner that a user namespace does not have.
const nobody = 65534

func orNobody(id uint32, ok bool) uint32 {
	if !ok {
		return nobody
	}
	return id
}

// orRoot gives the container's root what belongs to somebody whom it does not have.
func orRoot(host func(uint32) (uint32, bool), id uint32) uint32 {
	n, ok := host(id)
	if !ok {
		n, _ = host(0)
	}
	return n
}

// StatPath says what a path in a container is.
func (s *Service) StatPath(ctx context.Context, ref, name string) (ctypes.PathStat, error) {
	c, err := s.find(ref)
	if err != nil {
		return ctypes.PathStat{}, err
	}
	root, done, err := s.view(ctx, c, viewOptions{mounts: true})
	if err != nil {
		return ctypes.PathStat{}, err
	}
	defer done()
	st, err := archive.Stat(root, name)
	return st, pathError(err, ref, name)
}

// Archive writes a path of a container as a tar stream to what begin gives, which is
// told what the path is. Errors before begin was called are ordinary ones, later ones
// cut the stream off.
func (s *Service) Archive(ctx context.Context, ref, name string, begin func(ctypes.PathStat) io.Writer) error {
	c, err := s.find(ref)
	if err != nil {
		return err
	}
	root, done, err := s.view(ctx, c, viewOptions{mounts: true})
	if err != nil {
		return err
	}
	defer done()
	st, err := archive.Stat(root, name)
	if err != nil {
		return pathError(err, ref, name)
	}
	s.event(c, events.ActionArchivePath, nil)
	if err := archive.Pack(ctx, begin(st), root, name, ownersOf(root)); err != nil {
		return pathError(err, ref, name)
	}
	return c.stillThere()
}

// Export writes the root file system of a container as a tar stream to what begin
// gives. Volumes are left out, as Docker leaves them out.
func (s *Service) Export(ctx context.Context, ref string, begin func() io.Writer) error {
	c, err := s.find(ref)
	if err != nil {
		return err
	}
	c.mu.Lock()
	dead, removing := c.st.Status == ctypes.StateDead, c.removing
	c.mu.Unlock()
	switch {
	case dead:
		return conflict("You cannot export container %s which is Dead", c.id)
	case removing:
		return conflict("You cannot export container %s which is being removed", c.id)
	}
	root, done, err := s.view(ctx, c, viewOptions{})
	if err != nil {
		return err
	}
	defer done()
	s.event(c, events.ActionExport, nil)
	if err := archive.PackTree(ctx, begin(), root, ownersOf(root)); err != nil {
		return err
	}
	return c.stillThere()
}

// ExtractOptions are those of PUT /containers/NAME/archive.
type ExtractOptions struct {
	NoOverwriteDirNonDir, CopyUIDGID bool
	// Abort makes a read of the stream that is waiting for the client fail.
	Abort func()
}

// Extract unpacks a tar stream, compressed or not, in a directory of a container. A
// container that does not run is not started meanwhile.
func (s *Service) Extract(ctx context.Context, ref, name string, o ExtractOptions, r io.Reader) error {
	c, err := s.find(ref)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w := &writer{cancel: cancel, abort: o.Abort, done: make(chan struct{})}
	root, done, err := s.view(ctx, c, viewOptions{writer: w, mounts: true})
	if err != nil {
		return err
	}
	defer done()
	rec, _ := c.snapshot()
	dest, err := extractionPoint(root, &rec, name)
	if err != nil {
		return pathError(err, ref, name)
	}
	uo := archive.UnpackOptions{NoOverwriteDirNonDir: o.NoOverwriteDirNonDir, IDs: ownersOf(root)}
	if o.CopyUIDGID && rec.Config.User != "" {
		// As Docker: the files are to be the container's user's.
		const limit = 8 << 20
		user, _, err := resolveUser(rec.Config.User, nil, func(name string) ([]byte, error) { return root.ReadFile(name, limit) })
		if err != nil {
			return err
		}
		uo.Owner = &[2]int{int(user.UID), int(user.GID)}
	}
	plain, err := compressed.Open(r)
	if err != nil {
		return err
	}
	err = root.IDs().AsRoot(func() error { return archive.Unpack(ctx, root, dest, plain, uo) })
	if err = errors.Join(err, plain.Close()); err != nil {
		return pathError(err, ref, name)
	}
	s.event(c, events.ActionExtractToDir, nil)
	return nil
}

// extractionPoint gives the directory to unpack in without links, and refuses one that
// may not be written to, with Docker's texts.
func extractionPoint(root *rootfs.Root, rec *record, name string) (string, error) {
	dest, err := root.Resolve(name)
	if err != nil {
		return "", err
	}
	fd, err := root.Open(dest, unix.O_PATH)
	if err != nil {
		return "", &fs.PathError{Op: "lstat", Path: dest, Err: err}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return "", err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return "", invalid("extraction point is not a directory")
	}
	if err := writableAt(rec, dest); err != nil {
		return "", err
	}
	return dest, nil
}

// within tells whether name is dir or lies below it.
func within(name, dir string) bool {
	dir = path.Clean(dir)
	return name == dir || strings.HasPrefix(name, strings.TrimSuffix(dir, "/")+"/")
}

// pathError words an error of a path in a container as Docker does.
func pathError(err error, ref, name string) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return errdefs.ErrNotFound.WithMessage("Could not find the file " + name + " in container " + ref)
	case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP):
		return invalid("%s", err)
	case errors.Is(err, unix.EROFS):
		return errdefs.ErrPermissionDenied.WithMessage(err.Error())
	}
	return err
}
