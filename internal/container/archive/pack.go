package archive

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"muelle/internal/container/rootfs"
)

// maxDepth bounds how deep a tree is followed: a descriptor is open for each level.
const maxDepth = 2048

type inode struct{ dev, ino uint64 }

// packer writes files to a tar stream.
type packer struct {
	ctx   context.Context
	w     *tar.Writer
	ids   IDs
	links map[inode]string // the first name of a file that has several
	buf   []byte
	dev   uint64 // of the directory above: where it changes there is a mount
	flat  bool   // directories without what is in them
}

func newPacker(ctx context.Context, w io.Writer, ids IDs) *packer {
	return &packer{ctx: ctx, w: tar.NewWriter(w), ids: ids, links: map[inode]string{}, buf: make([]byte, 128<<10)}
}

// Pack writes what a path names to w as Docker does: the first entry is called like
// the path's last element, also where that is a link that leads to a directory of
// another name; those of a directory's content ("dir/.") begin with "./", those of the
// root with "/". It fails with a *fs.PathError before it wrote anything where there is
// no such path.
func Pack(ctx context.Context, w io.Writer, root *rootfs.Root, name string, ids IDs) error {
	full := absolute(name)
	fd, err := root.Open(full, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return &fs.PathError{Op: "lstat", Path: full, Err: err}
	}
	p := newPacker(ctx, w, ids)
	if err := p.file(fd, baseName(full), 0); err != nil {
		return err
	}
	return p.w.Close()
}

// PackTree writes everything below the root with names relative to it, as `export`
// does.
func PackTree(ctx context.Context, w io.Writer, root *rootfs.Root, ids IDs) error {
	fd, err := root.Open("/", unix.O_PATH)
	if err != nil {
		return err
	}
	p := newPacker(ctx, w, ids)
	defer unix.Close(fd)
	if err := p.children(fd, "", 0); err != nil {
		return err
	}
	return p.w.Close()
}

// file writes one file, which fd refers to as O_PATH, and what is below it. It closes
// fd.
func (p *packer) file(fd int, as string, depth int) error {
	closed := false
	defer func() {
		if !closed {
			unix.Close(fd)
		}
	}()
	if err := p.ctx.Err(); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	h, err := p.header(fd, &st, as)
	if err != nil || h == nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeReg:
		return p.regular(fd, h)
	case tar.TypeDir:
		if as != "/" {
			h.Name += "/"
		}
		if err := p.w.WriteHeader(h); err != nil || p.flat {
			return err
		}
		dir, err := rootfs.Reopen(fd, unix.O_RDONLY|unix.O_DIRECTORY)
		if err != nil {
			return err
		}
		unix.Close(fd)
		closed = true
		defer unix.Close(dir)
		if st.Dev != p.dev && depth > 0 && kernelFiles(dir) {
			return nil
		}
		above := p.dev
		p.dev = st.Dev
		err = p.children(dir, as, depth+1)
		p.dev = above
		return err
	}
	return p.w.WriteHeader(h)
}

// header describes a file; nil where it is not to be written.
func (p *packer) header(fd int, st *unix.Stat_t, as string) (*tar.Header, error) {
	flag := typeFlag(st.Mode)
	if flag == 0 {
		return nil, nil
	}
	h := &tar.Header{
		Typeflag: flag, Name: as, Mode: int64(st.Mode & 0o7777), Format: tar.FormatPAX,
		// Whole seconds, as Docker: a PAX record for each file would cost more than it gives.
		ModTime: time.Unix(int64(st.Mtim.Sec), 0),
	}
	h.Uid, h.Gid = p.ids.out(st.Uid, st.Gid)
	switch flag {
	case tar.TypeReg:
		h.Size = st.Size
	case tar.TypeSymlink:
		target, err := rootfs.Readlink(fd, "")
		if err != nil {
			return nil, err
		}
		h.Linkname = target
	case tar.TypeChar, tar.TypeBlock:
		h.Devmajor, h.Devminor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	}
	if flag != tar.TypeDir && st.Nlink > 1 {
		key := inode{st.Dev, st.Ino}
		if first, ok := p.links[key]; ok {
			h.Typeflag, h.Linkname, h.Size = tar.TypeLink, first, 0
			return h, nil
		}
		p.links[key] = as
	}
	if flag == tar.TypeReg || flag == tar.TypeDir {
		records, err := xattrs(rootfs.FDPath(fd))
		if err != nil {
			return nil, fmt.Errorf("read attributes of %s: %w", as, err)
		}
		h.PAXRecords = records
	}
	return h, nil
}

// regular writes a file's content, exactly as much as its header says: it may grow or
// shrink meanwhile.
func (p *packer) regular(fd int, h *tar.Header) error {
	f, err := rootfs.Reopen(fd, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return fmt.Errorf("open %s: %w", h.Name, err)
	}
	file := os.NewFile(uintptr(f), h.Name)
	defer file.Close()
	if err := p.w.WriteHeader(h); err != nil {
		return err
	}
	n, err := io.CopyBuffer(onlyWriter{p.w}, onlyReader{p.ctx, io.LimitReader(file, h.Size)}, p.buf)
	if err != nil {
		return fmt.Errorf("read %s: %w", h.Name, err)
	}
	if n < h.Size {
		_, err = io.CopyBuffer(onlyWriter{p.w}, io.LimitReader(onlyReader{p.ctx, zeros{}}, h.Size-n), p.buf)
	}
	return err
}

// onlyWriter and onlyReader keep io.Copy to our buffer; the reader ends with ctx.
type onlyWriter struct{ io.Writer }

type onlyReader struct {
	ctx context.Context
	r   io.Reader
}

func (o onlyReader) Read(p []byte) (int, error) {
	if err := o.ctx.Err(); err != nil {
		return 0, err
	}
	return o.r.Read(p)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// children writes what is in a directory.
func (p *packer) children(dir int, as string, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("%s: more than %d directories deep", as, maxDepth)
	}
	return eachName(dir, func(name string) error {
		fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err == nil {
			err = p.file(fd, join(as, name), depth)
		}
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESTALE) {
			return nil // removed meanwhile
		}
		return err
	})
}

// join puts a name behind the one above it, if there is any; "./" stays before it, which
// path.Join would take away.
func join(as, name string) string {
	if as == "" || as == "/" {
		return as + name
	}
	return as + "/" + name
}

// eachName calls f for what is in a directory, in order of names unless there are very
// many.
func eachName(dir int, f func(name string) error) error {
	d, err := unix.Openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	file := os.NewFile(uintptr(d), "directory")
	defer file.Close()
	for {
		names, err := file.Readdirnames(8192)
		slices.Sort(names)
		for _, name := range names {
			if err := f(name); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// kernelFiles tells whether a directory is the root of a file system in which the
// kernel shows itself: those have no end, and are nobody's files.
func kernelFiles(dir int) bool {
	var fs unix.Statfs_t
	if unix.Fstatfs(dir, &fs) != nil {
		return false
	}
	switch int64(fs.Type) {
	case unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.CGROUP_SUPER_MAGIC, unix.CGROUP2_SUPER_MAGIC, unix.DEVPTS_SUPER_MAGIC,
		unix.DEBUGFS_MAGIC, unix.TRACEFS_MAGIC, unix.SECURITYFS_MAGIC, unix.BPF_FS_MAGIC, unix.NSFS_MAGIC:
		return true
	}
	return false
}
