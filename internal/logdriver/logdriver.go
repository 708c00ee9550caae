// Package logdriver is the contract for where a container's output goes. The
// writing half runs in the shim, so it links next to nothing; the reading half
// runs in the daemon and reads files only, so logs are there whether or not the
// container or its shim still is. One folder per technology; reader reads them.
package logdriver

import "time"

// Config is what the shim needs to write and the daemon to read.
type Config struct {
	// Type is "json-file", "local" (kept in the same format) or "none".
	Type string
	// Path of the current file. A rotated one gets a number appended that grows
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
