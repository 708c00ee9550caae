// Package logdriver is the contract for where a container's output goes. The
// writing half runs in the shim, so it links next to nothing; the reading half
// runs in the daemon and reads files only, so logs are there whether or not the
// container or its shim still is. One folder per technology; reader reads them.
package logdriver

import (
	"bytes"
	"time"
)

// Config is what the shim needs to write and the daemon to read.
type Config struct {
	// Type is Docker's name of the driver: "json-file", "local" (kept in the same
	// format), "syslog", "journald" or "none".
	Type string
	// Path of the current file; empty: no file is written, and nothing can be read
	// back. For a driver that sends logs elsewhere it is the local copy. A rotated one gets a number appended that grows
	// (".000001") and is never renamed again but for the ".gz" of a compressed one:
	// so the shim rotates, the daemon compresses, and neither disturbs the other.
	Path string
	// MaxSize is the size in bytes at which the file is rotated; 0 means never.
	MaxSize int64
	// MaxFile is how many files are kept, the current one included; at least 1.
	MaxFile int
	// Compress gzips rotated files (done by the daemon: see reader.Compress).
	Compress bool
	// Extra is a JSON object ("attrs": labels and env asked for) or empty.
	Extra string
	// Remote is where lines are sent beside the file; its Kind is empty for none.
	Remote Remote
}

// Remote is a service that takes lines over a socket.
type Remote struct {
	// Kind is "syslog" or "journald".
	Kind string
	// Network is "udp", "tcp", "unix", "unixgram" or "tcp+tls".
	Network string
	// Path of a unix socket, or Addr, the 4 or 16 bytes of an address, with Port.
	Path string
	Addr []byte
	Port uint16
	Zone uint32 // of a link-local IPv6 address
	// Format, Facility, Hostname and Tag are syslog's; Fields are those that every
	// entry of the journal has, in its native protocol.
	Format   Format
	Framed   bool // each message has its length before it: RFC 5425
	Facility int  // already shifted: LOG_DAEMON is 24
	Hostname string
	Tag      string
	Fields   []byte
	// NonBlocking drops what does not fit into Buffer bytes where the service is
	// slow; otherwise the container waits for it.
	NonBlocking bool
	Buffer      int64
	// Helper, unless empty, is a program and its arguments that makes the connection:
	// what is written to the socket that is its standard input goes to the service. It
	// first answers with HelperReady or with at most HelperWords bytes of why not.
	Helper []string
}

// What a helper answers.
const (
	HelperReady = 0
	HelperWords = 512
)

// Format is how a syslog message is written.
type Format uint8

// The formats: Docker's default is what local syslog servers read.
const (
	FormatUnix Format = iota
	FormatRFC3164
	FormatRFC5424
	FormatRFC5424Micro
)

// Splitter cuts what comes into lines. It holds what has no newline yet.
type Splitter struct {
	pending [3][]byte
	since   [3]time.Time
	partial uint64
}

// Partial counts the pieces of lines that were too long to be kept whole.
func (l *Splitter) Partial() uint64 { return l.partial }

// Next cuts the first entry off p, in two pieces that are valid until the next call,
// with the time of its first byte; rest is to be given to the next call. Not ok: p
// has no complete entry and was kept.
func (l *Splitter) Next(s Stream, p []byte, at time.Time) (head, tail, rest []byte, when time.Time, ok bool) {
	head = l.pending[s]
	nl := bytes.IndexByte(p, '\n')
	if nl < 0 && len(head)+len(p) < MaxLine {
		if len(head) == 0 {
			l.since[s] = at
		}
		l.pending[s] = append(head, p...)
		return nil, nil, nil, at, false
	}
	when = at
	if len(head) > 0 {
		when = l.since[s]
	}
	n := nl + 1
	if nl < 0 || len(head)+n > MaxLine {
		n = MaxLine - len(head)
		l.partial++
	}
	l.pending[s] = head[:0]
	return head, p[:n], p[n:], when, true
}

// Rest gives, once, the unfinished line of a stream.
func (l *Splitter) Rest(s Stream) (line []byte, when time.Time) {
	line, when = l.pending[s], l.since[s]
	l.pending[s] = nil
	return line, when
}

// Unfinished gives what Rest would, and leaves it.
func (l *Splitter) Unfinished(s Stream) (line []byte, since time.Time) {
	return l.pending[s], l.since[s]
}

// Continue makes a new Splitter one that another was: it has counted that many pieces.
func (l *Splitter) Continue(partial uint64) { l.partial = partial }

// Hold gives a stream of a new Splitter a line that another has not finished.
func (l *Splitter) Hold(s Stream, line []byte, since time.Time) {
	l.pending[s], l.since[s] = append([]byte(nil), line...), since
}

// Stream names an output.
type Stream uint8

// The streams of a process.
const (
	Stdout Stream = 1
	Stderr Stream = 2
)

// Writer is used by the shim: one call per read from a stream, in any pieces; the
// writer splits lines, keeps what has no newline yet, and marks lines longer than
// 16 KiB as partial, as Docker's json-file does.
type Writer interface {
	Write(s Stream, p []byte, at time.Time) error
	// Partial is the Splitter's count.
	Partial() uint64
	// Close writes what is left of unfinished lines.
	Close() error
}

// Entry is one line read back. Line ends with a newline unless Partial.
type Entry struct {
	Stream  Stream
	Time    time.Time
	Line    []byte
	Partial bool
	Attrs   map[string]string
}

// ReadOptions selects entries, as `logs` does.
type ReadOptions struct {
	Since, Until time.Time // zero: unbounded
	Tail         int       // last n entries; negative: all
	Stdout       bool
	Stderr       bool
}

// MaxLine is the length in bytes at which a line without a newline is cut into
// partial entries, as Docker does.
const MaxLine = 16 << 10
