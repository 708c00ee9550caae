// Package filecopy copies files between the client's file system and containers, as
// archives through the API: the client's half of cp.
package filecopy

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/moby/moby/api/types/container"

	"muelle/client"
)

var (
	errCopyDir = errors.New("cannot copy directory")
	errNoDir   = errors.New("no such directory")
)

// destination decides where a copy lands: the folder to unpack in, and the name
// that the archive's first entry gets there; empty keeps its own. It is the same on
// both sides: a folder takes the source in, what does not exist becomes the copy.
func destination(dst string, exists, isDir, srcIsDir bool) (dir, name string, err error) {
	switch {
	case exists && isDir:
		return dst, "", nil
	case exists && srcIsDir:
		return "", "", errCopyDir
	case !exists && !srcIsDir && strings.HasSuffix(dst, "/"):
		return "", "", errNoDir
	}
	clean := path.Clean(dst)
	return path.Dir(clean), path.Base(clean), nil
}

// contentOnly says that a source names a folder's content ("dir/."), as the root does:
// it has no name.
func contentOnly(src string) bool {
	return src == "." || strings.HasSuffix(src, "/.") || path.Clean(src) == "/"
}

// Options of one copy.
type Options struct {
	// Archive keeps owners, Follow copies what a symbolic link named as the source leads to.
	Archive, Follow bool
	Stdin           io.Reader // for the source "-": an archive
	Stdout          io.Writer // for the destination "-": an archive
}

// From copies src of a container to dst, a path or "-". It gives the archive's size, -1
// where that went to standard output.
func From(ctx context.Context, c *client.Client, ref, src, dst string, o Options) (int64, error) {
	if err := outputPath(dst); err != nil {
		return 0, err
	}
	if o.Follow {
		if st, err := c.Containers.StatPath(ctx, ref, src); err == nil && st.Mode&os.ModeSymlink != 0 {
			src = linkTarget(src, st)
		}
	}
	body, st, err := c.Containers.CopyFrom(ctx, ref, src)
	if err != nil {
		return 0, err
	}
	defer func() { _ = body.Close() }()
	if dst == "-" {
		_, err := io.Copy(o.Stdout, body)
		return -1, err
	}
	fi, serr := os.Stat(dst)
	dir, name, err := destination(dst, serr == nil, serr == nil && fi.IsDir(), st.Mode.IsDir())
	if err != nil {
		return 0, err
	}
	counted := &counter{r: body}
	if err := unpack(counted, dir, name, contentOnly(src), o.Archive); err != nil {
		return 0, err
	}
	return counted.n, nil
}

// outputPath refuses a destination that nothing can be written to, before the engine is
// asked, in the words of Docker's client.
func outputPath(dst string) error {
	if dst == "-" {
		return nil
	}
	dir := filepath.Dir(filepath.Clean(dst))
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("invalid output path: directory %q does not exist", dir)
	}
	if fi, err := os.Stat(dst); err == nil && !fi.IsDir() && !fi.Mode().IsRegular() {
		return fmt.Errorf("invalid output path: %q must be a directory or a regular file", dst)
	}
	return nil
}

func linkTarget(src string, st container.PathStat) string {
	if path.IsAbs(st.LinkTarget) {
		return st.LinkTarget
	}
	return path.Join(path.Dir(path.Clean(src)), st.LinkTarget)
}

type counter struct {
	r io.Reader
	n int64
}

// Read counts what it reads.
func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// unpack extracts an archive in dir, its first name replaced by name, or all of it
// below name if it is a folder's content. Links in it cannot lead out of dir: it
// comes from a container. Owners are kept where archive asks for it.
func unpack(r io.Reader, dir, name string, content, archive bool) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	var folders []*tar.Header
	for t := tar.NewReader(r); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return finishFolders(root, folders)
		}
		if err != nil {
			return fmt.Errorf("read archive: %w", err)
		}
		target := rebase(h.Name, name, content)
		if target == "." {
			continue
		}
		entry := h.Name
		if h.Typeflag == tar.TypeLink {
			h.Linkname = rebase(h.Linkname, name, content)
		}
		if err := unpackEntry(root, t, h, target, archive); err != nil {
			return fmt.Errorf("extract %s: %w", entry, err)
		}
		if h.Typeflag == tar.TypeDir {
			h.Name = target
			folders = append(folders, h)
		}
	}
}

// finishFolders gives folders their modes and times when everything is in them: one
// may not be writable.
func finishFolders(root *os.Root, folders []*tar.Header) error {
	for _, h := range slices.Backward(folders) {
		if err := root.Chmod(h.Name, h.FileInfo().Mode()&modeBits); err != nil {
			return fmt.Errorf("extract %s: %w", h.Name, err)
		}
		if err := root.Chtimes(h.Name, h.ModTime, h.ModTime); err != nil {
			return fmt.Errorf("extract %s: %w", h.Name, err)
		}
	}
	return nil
}

const modeBits = os.ModePerm | os.ModeSetuid | os.ModeSetgid | os.ModeSticky

// rebase replaces a path's first part, or puts another before a content's.
func rebase(entry, name string, content bool) string {
	entry = path.Clean(strings.TrimPrefix(entry, "/"))
	if name == "" || content {
		return path.Join(name, entry)
	}
	_, rest, _ := strings.Cut(entry, "/")
	return path.Join(name, rest)
}

func unpackEntry(root *os.Root, t *tar.Reader, h *tar.Header, target string, archive bool) error {
	if h.Typeflag == tar.TypeDir {
		if fi, err := root.Lstat(target); err == nil && !fi.IsDir() {
			if err := root.Remove(target); err != nil {
				return err
			}
		}
		if err := root.MkdirAll(target, 0o755); err != nil || !archive {
			return err
		}
		return root.Lchown(target, h.Uid, h.Gid)
	}
	if err := root.MkdirAll(path.Dir(target), 0o755); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeSymlink, tar.TypeLink:
		if err := root.Remove(target); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if h.Typeflag == tar.TypeLink {
			return root.Link(h.Linkname, target)
		}
		if err := root.Symlink(h.Linkname, target); err != nil || !archive {
			return err
		}
		return root.Lchown(target, h.Uid, h.Gid)
	case tar.TypeReg:
		return unpackFile(root, t, h, target, archive)
	}
	return unpackNode(root, h, target, archive)
}

func unpackFile(root *os.Root, t *tar.Reader, h *tar.Header, target string, archive bool) error {
	// Written anew: what was there may be a link, or somebody's running program.
	if fi, err := root.Lstat(target); err == nil && !fi.IsDir() {
		if err := root.Remove(target); err != nil {
			return err
		}
	}
	f, err := root.OpenFile(target, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, t)
	if err == nil && archive {
		err = f.Chown(h.Uid, h.Gid)
	}
	if err == nil {
		err = errors.Join(f.Chmod(h.FileInfo().Mode()&modeBits), setAttributes(f, h))
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return root.Chtimes(target, h.ModTime, h.ModTime)
}

// To copies src, a path or "-", to dst of a container. It gives the archive's size, -1
// where that came from standard input.
func To(ctx context.Context, c *client.Client, ref, src, dst string, o Options) (int64, error) {
	st, err := c.Containers.StatPath(ctx, ref, dst)
	if err == nil && st.Mode&os.ModeSymlink != 0 {
		dst = linkTarget(dst, st)
		st, err = c.Containers.StatPath(ctx, ref, dst)
	}
	// Whatever is wrong with the destination, the copy itself tells in more words.
	exists := err == nil
	if src == "-" {
		if !exists || !st.Mode.IsDir() {
			return 0, fmt.Errorf("destination \"%s:%s\" must be a directory", ref, dst)
		}
		return -1, c.Containers.CopyTo(ctx, ref, dst, false, o.Archive, o.Stdin)
	}
	if o.Follow && !contentOnly(src) {
		real, err := filepath.EvalSymlinks(src)
		if err != nil {
			return 0, err
		}
		src = real
	}
	fi, err := os.Lstat(src)
	if err != nil {
		return 0, err
	}
	dir, name, err := destination(dst, exists, exists && st.Mode.IsDir(), fi.IsDir())
	if err != nil {
		return 0, err
	}
	if name == "" && !contentOnly(src) {
		abs, err := filepath.Abs(src)
		if err != nil {
			return 0, err
		}
		name = filepath.Base(abs)
	}
	pr, pw := io.Pipe()
	go func() { pw.CloseWithError(pack(pw, src, name)) }()
	counted := &counter{r: pr}
	err = c.Containers.CopyTo(ctx, ref, dir, false, o.Archive, counted)
	_ = pr.Close()
	if err != nil {
		return 0, err
	}
	return counted.n, nil
}

// pack writes a file or folder as an archive whose first name is name; empty for a
// folder's content.
func pack(w io.Writer, src, name string) error {
	p := &packer{t: tar.NewWriter(w), linked: make(map[inode]string)}
	src = filepath.Clean(src)
	err := filepath.WalkDir(src, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(src, file)
		if err != nil {
			return err
		}
		return p.entry(file, d, path.Join(name, filepath.ToSlash(rel)))
	})
	if err != nil {
		return err
	}
	return p.t.Close()
}

type packer struct {
	t      *tar.Writer
	linked map[inode]string // names that files of several have in the archive
}

type inode struct{ device, number uint64 }

func (p *packer) entry(file string, d fs.DirEntry, as string) error {
	fi, err := d.Info()
	if err != nil || fi.Mode()&os.ModeSocket != 0 {
		return err
	}
	link := ""
	if fi.Mode()&os.ModeSymlink != 0 {
		if link, err = os.Readlink(file); err != nil {
			return err
		}
	}
	h, err := tar.FileInfoHeader(fi, link)
	if err != nil {
		return err
	}
	h.Name = as
	if fi.IsDir() {
		h.Name += "/"
	}
	if !fi.Mode().IsRegular() {
		return p.t.WriteHeader(h)
	}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok && st.Nlink > 1 {
		i := inode{uint64(st.Dev), st.Ino}
		if first, ok := p.linked[i]; ok {
			h.Typeflag, h.Linkname, h.Size = tar.TypeLink, first, 0
			return p.t.WriteHeader(h)
		}
		p.linked[i] = as
	}
	return p.file(file, h)
}

func (p *packer) file(name string, h *tar.Header) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if err := addAttributes(f, h); err != nil {
		return err
	}
	if err := p.t.WriteHeader(h); err != nil {
		return err
	}
	_, err = io.Copy(p.t, io.LimitReader(f, h.Size))
	return err
}

// ContainerPath splits NAME:PATH. What starts with a slash or a dot is a local path,
// whatever follows.
func ContainerPath(s string) (ref, path string) {
	if strings.HasPrefix(s, "/") || strings.HasPrefix(s, ".") {
		return "", s
	}
	ref, path, ok := strings.Cut(s, ":")
	if !ok {
		return "", s
	}
	return ref, path
}
