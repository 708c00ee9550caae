package build

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/go-archive/compression"
)

// limits bound what a stranger's archive may make of the disk.
type limits struct {
	entries int
	bytes   int64
}

var contextLimits = limits{entries: 2_000_000, bytes: 64 << 30}

// extractContext unpacks a build context, compressed or not, into dir, which is
// made. Nothing is written outside dir, whatever the archive says: every path is
// opened below it without leaving by a symbolic link.
func extractContext(ctx context.Context, body io.Reader, dir string, l limits) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	plain, err := compression.DecompressStream(body)
	if err != nil {
		return badContext(err)
	}
	defer plain.Close()

	x := extractor{root: root, left: l}
	tr := tar.NewReader(plain)
	for {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return x.finish()
		}
		if err != nil {
			return badContext(err)
		}
		if err := x.entry(h, tr); err != nil {
			return badContext(fmt.Errorf("%s: %w", h.Name, err))
		}
	}
}

func badContext(err error) error {
	return errdefs.ErrInvalidArgument.WithMessage("invalid build context: " + err.Error())
}

type extractor struct {
	root *os.Root
	left limits
	dirs []*tar.Header // their modes and times are set last, when they are filled
}

func (x *extractor) entry(h *tar.Header, r io.Reader) error {
	if x.left.entries--; x.left.entries < 0 {
		return errors.New("too many files")
	}
	if x.left.bytes -= max(h.Size, 0); x.left.bytes < 0 {
		return errors.New("too large")
	}
	name := strings.TrimPrefix(path.Clean("/"+h.Name), "/")
	if name == "" {
		name = "."
	}
	h.Name = name
	if name != "." {
		if err := x.root.MkdirAll(path.Dir(name), 0o755); err != nil {
			return err
		}
	}
	switch h.Typeflag {
	case tar.TypeDir:
		x.dirs = append(x.dirs, h)
		if name == "." {
			return nil
		}
		return x.root.MkdirAll(name, 0o755)
	case tar.TypeReg:
		return x.file(h, r)
	case tar.TypeSymlink:
		if err := x.makeRoom(name); err != nil {
			return err
		}
		return x.root.Symlink(h.Linkname, name)
	case tar.TypeLink:
		if err := x.makeRoom(name); err != nil {
			return err
		}
		return x.root.Link(strings.TrimPrefix(path.Clean("/"+h.Linkname), "/"), name)
	case tar.TypeXGlobalHeader:
		return nil
	default:
		return fmt.Errorf("unsupported kind of file (%c)", h.Typeflag)
	}
}

// makeRoom removes what an earlier entry of the same name has left.
func (x *extractor) makeRoom(name string) error {
	if name == "." {
		return errors.New("is the context itself")
	}
	if err := x.root.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func (x *extractor) file(h *tar.Header, r io.Reader) error {
	if err := x.makeRoom(h.Name); err != nil {
		return err
	}
	f, err := x.root.OpenFile(h.Name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Chmod(h.FileInfo().Mode()), f.Close(), x.root.Chtimes(h.Name, h.ModTime, h.ModTime))
}

func (x *extractor) finish() error {
	for i := len(x.dirs) - 1; i >= 0; i-- {
		h := x.dirs[i]
		st, err := x.root.Lstat(h.Name)
		if err != nil || !st.IsDir() {
			continue // replaced by a later entry
		}
		if h.Name == "." {
			continue
		}
		if err := errors.Join(x.root.Chmod(h.Name, h.FileInfo().Mode().Perm()|0o700), x.root.Chtimes(h.Name, h.ModTime, h.ModTime)); err != nil {
			return badContext(err)
		}
	}
	return nil
}

// readDockerfile reads the Dockerfile of an extracted context.
func readDockerfile(dir, name string) ([]byte, error) {
	if name == "" {
		name = "Dockerfile"
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, err := root.Open(filepath.Clean(strings.TrimPrefix(name, "/")))
	if err != nil {
		return nil, errdefs.ErrInvalidArgument.WithMessage("Cannot locate specified Dockerfile: " + name)
	}
	defer f.Close()
	const most = 16 << 20
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, err
	}
	if len(data) > most {
		return nil, errdefs.ErrInvalidArgument.WithMessage("the Dockerfile is larger than 16 MiB")
	}
	return data, nil
}
