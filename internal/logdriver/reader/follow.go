package reader

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"

	"muelle/internal/logdriver"
)

// Follow yields as Read does and then what is appended, across rotations, until ctx
// ends, o.Until has passed, or ended is closed and everything written was read. A
// container that starts again goes on in the same file: the caller passes the
// channel of the run it means.
func Follow(ctx context.Context, cfg logdriver.Config, o logdriver.ReadOptions, ended <-chan struct{}) iter.Seq2[logdriver.Entry, error] {
	return func(yield func(logdriver.Entry, error) bool) {
		if err := readable(cfg); err != nil {
			yield(logdriver.Entry{}, err)
			return
		}
		watch, err := fsnotify.NewWatcher()
		if err != nil {
			yield(logdriver.Entry{}, fmt.Errorf("watch log: %w", err))
			return
		}
		defer watch.Close()
		if err := watch.Add(filepath.Dir(cfg.Path)); err != nil {
			yield(logdriver.Entry{}, fmt.Errorf("watch log: %w", err))
			return
		}
		p := position{path: cfg.Path}
		defer p.close()
		if err := p.openTail(o.Tail); err != nil {
			yield(logdriver.Entry{}, err)
			return
		}
		follow(ctx, &p, o, watch, ended, yield)
	}
}

func follow(ctx context.Context, p *position, o logdriver.ReadOptions, watch *fsnotify.Watcher, ended <-chan struct{}, yield func(logdriver.Entry, error) bool) {
	var until <-chan time.Time
	if !o.Until.IsZero() {
		timer := time.NewTimer(time.Until(o.Until))
		defer timer.Stop()
		until = timer.C
	}
	for {
		over := closed(ended) // asked before reading: what was written is then read
		for {
			if !p.drain(o, yield) {
				return
			}
			moved, err := p.advance()
			if err != nil {
				yield(logdriver.Entry{}, err)
				return
			}
			if !moved {
				break
			}
		}
		if over {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-until:
			return
		case <-ended:
		case <-watch.Events:
		case err := <-watch.Errors:
			if !errors.Is(err, fsnotify.ErrEventOverflow) { // overflow only means: look again
				yield(logdriver.Entry{}, fmt.Errorf("watch log: %w", err))
				return
			}
		}
	}
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// advance goes on to the next file where the one being read was rotated away, and
// rewinds where it was emptied.
func (p *position) advance() (bool, error) {
	st, err := os.Stat(p.path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // between rename and open of the writer, or not begun
	}
	if err != nil {
		return false, fmt.Errorf("read log: %w", err)
	}
	if p.file == nil {
		return true, p.open(p.seq)
	}
	own, err := p.file.Stat()
	if err != nil {
		return false, fmt.Errorf("read log: %w", err)
	}
	if os.SameFile(st, own) {
		offset, err := p.file.Seek(0, 1)
		if err == nil && own.Size() < offset {
			_, err = p.file.Seek(0, 0)
			p.in.Reset(p.file)
			p.part = nil
			return true, err
		}
		return false, err
	}
	if own.Size() > p.offset() {
		return true, nil // written between our last read and its rotation
	}
	return true, p.open(p.seq + 1)
}

func (p *position) offset() int64 {
	n, _ := p.file.Seek(0, 1)
	return n
}
