// Package jsonfile writes a container's output as Docker's json-file driver does:
// one JSON object a line with log, stream and time. It is linked into the shim, one
// of which runs per container, so it imports neither encoding/json, fmt nor os.
package jsonfile

import (
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"muelle/internal/logdriver"
)

// seqDigits pads the number of a rotated file, so that names sort by age.
const seqDigits = 6

// Writer implements logdriver.Writer. It is not safe for concurrent use.
type Writer struct {
	path    string // and what else of logdriver.Config a file needs
	extra   string
	maxSize int64
	maxFile int
	fd      int
	size    int64
	nextSeq int
	lines   logdriver.Splitter
	buf     []byte
	joined  []byte // a line that came in two pieces
	room    []byte // where buf lies, unless it outgrows that
}

// NewWriter opens or makes cfg.Path (mode 0640) and appends to it.
func NewWriter(cfg *logdriver.Config) (*Writer, error) {
	w := &Writer{path: cfg.Path, extra: cfg.Extra, maxSize: cfg.MaxSize, maxFile: cfg.MaxFile, fd: -1}
	if err := w.open(); err != nil {
		return nil, err
	}
	w.nextSeq = highestSeq(cfg.Path) + 1
	return w, nil
}

// Resume makes a Writer that goes on where another one was, which was made with the same
// cfg: in the open file fd, with the unfinished lines that are given to Lines.
func Resume(cfg *logdriver.Config, fd, next int) (*Writer, error) {
	w := &Writer{path: cfg.Path, extra: cfg.Extra, maxSize: cfg.MaxSize, maxFile: cfg.MaxFile, fd: -1, nextSeq: next}
	return w, w.take(fd)
}

// Position is what Resume wants to know.
func (w *Writer) Position() (fd, next int) { return w.fd, w.nextSeq }

// Lines are the unfinished ones.
func (w *Writer) Lines() *logdriver.Splitter { return &w.lines }

func (w *Writer) open() error {
	fd, err := unix.Open(w.path, unix.O_WRONLY|unix.O_APPEND|unix.O_CREAT|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o640)
	if err != nil {
		return err
	}
	if err := w.take(fd); err != nil {
		unix.Close(fd)
		return err
	}
	return nil
}

func (w *Writer) take(fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	w.fd, w.size = fd, st.Size
	return nil
}

// BufferSize holds what a call of Write collects before it is written to the file, but
// for some lines that are nothing but control characters.
const BufferSize = 2 * flushAt

// Use lets the writer put entries together in memory of the caller's, BufferSize bytes.
// Between two calls the writer needs nothing that is in it.
func (w *Writer) Use(room []byte) { w.room, w.buf = room, room[:0] }

// Write splits p into lines and appends those that are complete.
func (w *Writer) Write(s logdriver.Stream, p []byte, at time.Time) error {
	w.buf = w.buf[:0]
	for len(p) > 0 {
		head, tail, rest, when, ok := w.lines.Next(s, p, at)
		if !ok {
			break
		}
		w.encode(s, head, tail, when)
		p = rest
		if err := w.flushIfLarge(); err != nil {
			return err
		}
	}
	return w.flush()
}

// Partial implements logdriver.Writer.
func (w *Writer) Partial() uint64 { return w.lines.Partial() }

// Close writes unfinished lines and closes the file.
func (w *Writer) Close() error {
	if w.fd < 0 {
		return nil
	}
	w.buf = w.buf[:0]
	for _, s := range []logdriver.Stream{logdriver.Stdout, logdriver.Stderr} {
		if line, when := w.lines.Rest(s); len(line) > 0 {
			w.encode(s, line, nil, when)
		}
	}
	err := w.flush()
	if cerr := unix.Close(w.fd); err == nil {
		err = cerr
	}
	w.fd = -1
	return err
}

const flushAt = 64 << 10

func (w *Writer) flushIfLarge() error {
	if len(w.buf) < flushAt {
		return nil
	}
	return w.flush()
}

// flush writes whole entries only, so a rotated file always ends with one.
func (w *Writer) flush() error {
	if len(w.buf) == 0 {
		return nil
	}
	if w.maxSize > 0 && w.size > 0 && w.size+int64(len(w.buf)) > w.maxSize {
		if err := w.rotate(); err != nil {
			return err
		}
	}
	data := w.buf
	for len(data) > 0 {
		n, err := unix.Write(w.fd, data)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			w.buf = w.buf[:0]
			return err
		}
		data = data[n:]
		w.size += int64(n)
	}
	w.buf = w.buf[:0]
	if cap(w.buf) > BufferSize {
		w.buf = w.room[:0]
	}
	return nil
}

// rotate gives the current file its number, removes those beyond MaxFile and opens
// a new one. With MaxFile of one, the current file is emptied.
func (w *Writer) rotate() error {
	if w.maxFile <= 1 {
		if err := unix.Ftruncate(w.fd, 0); err != nil {
			return err
		}
		w.size = 0
		return nil
	}
	seq := w.nextSeq
	if err := unix.Rename(w.path, rotatedName(w.path, seq)); err != nil {
		return err
	}
	w.nextSeq++
	old := w.fd
	if err := w.open(); err != nil {
		w.fd = old // goes on in the renamed file: late, but nothing is lost
		return err
	}
	unix.Close(old)
	eachRotated(w.path, func(name string, n int) {
		if n <= seq-(w.maxFile-1) {
			unix.Unlink(name)
		}
	})
	return nil
}

func rotatedName(path string, seq int) string {
	digits := strconv.Itoa(seq)
	return path + "." + strings.Repeat("0", max(0, seqDigits-len(digits))) + digits
}

func highestSeq(path string) int {
	highest := 0
	eachRotated(path, func(_ string, n int) { highest = max(highest, n) })
	return highest
}

// eachRotated calls fn with the path and number of each rotated file, compressed
// or not.
func eachRotated(path string, fn func(name string, seq int)) {
	slash := strings.LastIndexByte(path, '/')
	dir, base := path[:slash+1], path[slash+1:]
	if dir == "" {
		dir = "."
	}
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	var names []string
	buf := make([]byte, 512) // a larger one would make the shim's stack grow, for good
	for {
		n, err := unix.ReadDirent(fd, buf)
		if err != nil || n <= 0 {
			break
		}
		_, _, names = unix.ParseDirent(buf[:n], -1, names)
	}
	for _, name := range names {
		if seq, ok := Sequence(base, name); ok {
			fn(path[:slash+1]+name, seq)
		}
	}
}

// Sequence gives the number of a rotated file's name, which may end in ".gz", for
// the current file's name base.
func Sequence(base, name string) (int, bool) {
	digits, ok := strings.CutPrefix(name, base)
	if !ok || digits == "" || digits[0] != '.' {
		return 0, false
	}
	digits = digits[1:]
	digits = strings.TrimSuffix(digits, ".gz")
	if len(digits) < seqDigits {
		return 0, false
	}
	n, err := strconv.Atoi(digits)
	return n, err == nil && n > 0
}
