package server

import (
	"errors"
	"io"

	"github.com/moby/term"
)

// errDetached is the cause of a stream's cancellation when the user typed the
// detach keys.
var errDetached = errors.New("detached")

// detachKeys reads a key sequence such as "ctrl-a,b"; none given means ctrl-p,
// ctrl-q.
func detachKeys(text string) ([]byte, error) {
	if text == "" {
		return []byte{16, 17}, nil
	}
	keys, err := term.ToBytes(text)
	if err != nil {
		return nil, badRequest("Invalid detach keys (%s): %s", text, err)
	}
	return keys, nil
}

// detachable reads a terminal's input until the detach keys were typed; then it
// ends the stream by detach, and reads as a reader that failed. Keys that may begin
// the sequence are held back until the next one tells.
type detachable struct {
	r      io.Reader
	keys   []byte
	detach func(cause error)

	held   int // how many of keys were typed so far
	buffer [4096]byte
	ready  []byte
	err    error
}

func newDetachable(r io.Reader, keys []byte, detach func(cause error)) io.Reader {
	return &detachable{r: r, keys: keys, detach: detach}
}

func (d *detachable) Read(p []byte) (int, error) {
	for len(d.ready) == 0 {
		if d.err != nil {
			if d.err == errDetached {
				d.detach(errDetached)
			}
			return 0, d.err
		}
		n, err := d.r.Read(d.buffer[:])
		d.err = err
		d.take(d.buffer[:n])
		if d.err != nil && d.err != errDetached {
			d.release()
		}
	}
	n := copy(p, d.ready)
	d.ready = d.ready[n:]
	return n, nil
}

// take looks for the sequence in typed.
func (d *detachable) take(typed []byte) {
	d.ready = d.ready[:0]
	for _, c := range typed {
		if c != d.keys[d.held] {
			d.release()
		}
		if c != d.keys[d.held] {
			d.ready = append(d.ready, c)
			continue
		}
		if d.held++; d.held == len(d.keys) {
			d.err = errDetached
			return
		}
	}
}

// release lets the keys held back through.
func (d *detachable) release() {
	d.ready = append(d.ready, d.keys[:d.held]...)
	d.held = 0
}
