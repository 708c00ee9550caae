package server

import (
	"encoding/binary"
	"io"
	"net"
	"sync"
)

// Stream types of the frames that multiplex standard output and error, as
// moby/api/pkg/stdcopy reads them.
const (
	stdoutFrame byte = 1
	stderrFrame byte = 2
)

const frameHead = 8

// framer writes frames of several streams to one connection, or, raw, the streams
// as they are.
type framer struct {
	mu  sync.Mutex
	w   io.Writer
	raw bool
	// before, if not nil, is called once, ahead of the first write.
	before func()
}

// stream gives the writer of one stream; each Write is one frame.
func (f *framer) stream(typ byte) io.Writer { return &frameWriter{framer: f, typ: typ} }

type frameWriter struct {
	framer *framer
	typ    byte
}

// Write sends head and payload by one writev where the connection can.
func (w *frameWriter) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	head := [frameHead]byte{w.typ}
	binary.BigEndian.PutUint32(head[4:], uint32(len(p)))
	f := w.framer
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.before != nil {
		f.before()
		f.before = nil
	}
	if f.raw {
		return f.w.Write(p)
	}
	buffers := net.Buffers{head[:], p}
	n, err := buffers.WriteTo(f.w)
	return max(0, int(n)-frameHead), err
}

// outputs gives the writers for a process's standard output and error.
func (f *framer) outputs() (stdout, stderr io.Writer) {
	return f.stream(stdoutFrame), f.stream(stderrFrame)
}
