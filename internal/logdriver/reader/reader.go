// Package reader reads back, in the daemon, what a log driver of the shim wrote:
// the last entries, a span of time, and what follows.
package reader

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"muelle/internal/logdriver"
	"muelle/internal/logdriver/jsonfile"
)

// Read yields what is in the files now, oldest first. An entry that cannot be
// decoded (a torn write of a machine that crashed) is passed over.
func Read(cfg logdriver.Config, o logdriver.ReadOptions) iter.Seq2[logdriver.Entry, error] {
	return func(yield func(logdriver.Entry, error) bool) {
		if err := readable(cfg); err != nil {
			yield(logdriver.Entry{}, err)
			return
		}
		p := position{path: cfg.Path}
		defer p.close()
		if err := p.openTail(o.Tail); err != nil {
			yield(logdriver.Entry{}, err)
			return
		}
		p.drain(o, yield)
	}
}

func readable(cfg logdriver.Config) error {
	if cfg.Path != "" {
		return nil
	}
	return errdefs.ErrNotImplemented.WithMessage("configured logging driver does not support reading")
}

// position is a place in the sequence of files: the rotated ones in rest are still
// to be read, then the current one.
type position struct {
	path string
	rest []rotated
	// file is what is being read; seq is the number it has or, for the current
	// file, will have once it is rotated.
	file *os.File
	seq  int
	in   *bufio.Reader
	// part is the beginning of an entry whose end was not written yet.
	part    []byte
	current bool
}

type rotated struct {
	name string
	seq  int
	tail []byte // where not nil: what is to be read instead of the file
}

// list gives the rotated files by number; of one that is there twice because it is
// being compressed, the plain one.
func list(path string) ([]rotated, error) {
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("list logs: %w", err)
	}
	base := filepath.Base(path)
	bySeq := map[int]string{}
	for _, e := range entries {
		seq, ok := jsonfile.Sequence(base, e.Name())
		if !ok {
			continue
		}
		if have := bySeq[seq]; have == "" || strings.HasSuffix(have, ".gz") {
			bySeq[seq] = filepath.Join(filepath.Dir(path), e.Name())
		}
	}
	files := make([]rotated, 0, len(bySeq))
	for seq, name := range bySeq {
		files = append(files, rotated{name: name, seq: seq})
	}
	slices.SortFunc(files, func(a, b rotated) int { return a.seq - b.seq })
	return files, nil
}

// open starts with the first file of number from or later.
func (p *position) open(from int) error {
	for {
		files, err := list(p.path)
		if err != nil {
			return err
		}
		current, err := os.Open(p.path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("open log: %w", err)
		}
		again, lerr := list(p.path)
		if lerr != nil || highest(again) != highest(files) {
			// Rotated between listing and opening: what was opened may be either.
			if current != nil {
				current.Close()
			}
			if lerr != nil {
				return lerr
			}
			continue
		}
		p.rest = slices.DeleteFunc(files, func(r rotated) bool { return r.seq < from })
		p.use(current, highest(again)+1, true)
		return nil
	}
}

func highest(files []rotated) int {
	if len(files) == 0 {
		return 0
	}
	return files[len(files)-1].seq
}

func (p *position) use(f *os.File, seq int, current bool) {
	p.close()
	p.file, p.seq, p.current, p.part = f, seq, current, nil
	if f != nil {
		p.in = bufio.NewReaderSize(f, 32<<10)
	}
}

func (p *position) close() {
	if p.file != nil {
		p.file.Close()
		p.file = nil
	}
}

// drain yields everything up to the end of the current file; false: the consumer
// has enough, or until was passed.
func (p *position) drain(o logdriver.ReadOptions, yield func(logdriver.Entry, error) bool) bool {
	for len(p.rest) > 0 {
		r := p.rest[0]
		p.rest = p.rest[1:]
		if !readRotated(r, o, yield) {
			return false
		}
	}
	if p.file == nil {
		return true
	}
	for {
		line, err := p.in.ReadBytes('\n')
		if len(p.part) > 0 {
			line = append(p.part, line...)
			p.part = nil
		}
		if err != nil {
			p.part = line
			if errors.Is(err, io.EOF) {
				return true
			}
			return yield(logdriver.Entry{}, fmt.Errorf("read log: %w", err))
		}
		if !emit(line, o, yield) {
			return false
		}
	}
}

func readRotated(r rotated, o logdriver.ReadOptions, yield func(logdriver.Entry, error) bool) bool {
	var in io.ReadCloser = io.NopCloser(bytes.NewReader(r.tail))
	var err error
	if r.tail == nil {
		in, err = openRotated(r.name)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return true // removed by rotation
	}
	if err != nil {
		return yield(logdriver.Entry{}, fmt.Errorf("open log: %w", err))
	}
	defer in.Close()
	lines := bufio.NewReaderSize(in, 32<<10)
	for {
		line, err := lines.ReadBytes('\n')
		if err == nil && !emit(line, o, yield) {
			return false
		}
		if errors.Is(err, io.EOF) {
			return true
		}
		if err != nil {
			return yield(logdriver.Entry{}, fmt.Errorf("read log %s: %w", r.name, err))
		}
	}
}

type gzipFile struct {
	*gzip.Reader
	file *os.File
}

func (g gzipFile) Close() error { return g.file.Close() }

func openRotated(name string) (io.ReadCloser, error) {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) && !strings.HasSuffix(name, ".gz") {
		name += ".gz"
		f, err = os.Open(name)
	}
	if err != nil || !strings.HasSuffix(name, ".gz") {
		return f, err
	}
	z, err := gzip.NewReader(f)
	if err != nil {
		f.Close()
		return nil, err
	}
	return gzipFile{z, f}, nil
}

// emit yields the entry if it is asked for.
func emit(line []byte, o logdriver.ReadOptions, yield func(logdriver.Entry, error) bool) bool {
	e, ok := decode(line)
	if !ok {
		return true
	}
	if !o.Until.IsZero() && e.Time.After(o.Until) {
		return false
	}
	if !o.Since.IsZero() && e.Time.Before(o.Since) ||
		e.Stream == logdriver.Stdout && !o.Stdout || e.Stream == logdriver.Stderr && !o.Stderr {
		return true
	}
	return yield(e, nil)
}

func decode(line []byte) (logdriver.Entry, bool) {
	var raw struct {
		Log    string            `json:"log"`
		Stream string            `json:"stream"`
		Time   time.Time         `json:"time"`
		Attrs  map[string]string `json:"attrs"`
	}
	if err := json.Unmarshal(line, &raw); err != nil {
		return logdriver.Entry{}, false
	}
	e := logdriver.Entry{Stream: logdriver.Stdout, Time: raw.Time, Line: []byte(raw.Log), Attrs: raw.Attrs}
	if raw.Stream == "stderr" {
		e.Stream = logdriver.Stderr
	}
	e.Partial = !strings.HasSuffix(raw.Log, "\n")
	return e, true
}
