// Package shimapi is the protocol between the daemon and a shim: frames over a
// unix stream socket, each with a type, a sequence number, a message in a compact
// binary form and, as SCM_RIGHTS, descriptors. It links next to nothing, because
// the shim does. A message only ever grows at its end, so a daemon and a shim of
// neighbouring releases understand each other; Version counts what does not fit
// that rule.
package shimapi

// Version of the protocol; MinVersion is the oldest that the daemon still speaks.
const (
	Version    = 1
	MinVersion = 1
)

// The files of a container's folder, and where the shim finds its first
// connection and its listening socket.
const (
	SocketFile = "shim.sock"
	StateFile  = "shim.state"
	ExitFile   = "shim.exit"
	BundleFile = "config.json" // of a container with hooks
	RootDir    = "root"

	ControlFD  = 3
	ListenFD   = 4
	DirFD      = 5
	FirstFree  = 6
	BinaryName = "muelle-shim"
)

// HeaderSize is the length of a frame's header: payload length, sequence number,
// count of descriptors, type.
const HeaderSize = 12

// MaxFrame bounds a frame: a peer that announces more is not ours.
const MaxFrame = 16 << 20

// MaxFDs is how many descriptors one sendmsg may carry (SCM_MAX_FD is 253).
const MaxFDs = 250

// Header begins a frame.
type Header struct {
	Length uint32
	Seq    uint32
	FDs    uint16
	Type   Type
}

// AppendFrame puts a frame together.
func AppendFrame(b []byte, t Type, seq uint32, fds int, m Message) []byte {
	at := len(b)
	b = append(b, make([]byte, HeaderSize)...)
	c := coder{buf: b}
	m.fields(&c)
	b = c.buf
	h := b[at:]
	put32(h, uint32(len(b)-at-HeaderSize))
	put32(h[4:], seq)
	h[8], h[9] = byte(fds), byte(fds>>8)
	h[10] = byte(t)
	return b
}

func put32(b []byte, v uint32) {
	b[0], b[1], b[2], b[3] = byte(v), byte(v>>8), byte(v>>16), byte(v>>24)
}

func get32(b []byte) uint32 {
	return uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24
}

// ParseHeader reads a header; ok is false where the frame cannot be ours.
func ParseHeader(b []byte) (h Header, ok bool) {
	h.Length = get32(b)
	h.Seq = get32(b[4:])
	h.FDs = uint16(b[8]) | uint16(b[9])<<8
	h.Type = Type(b[10])
	return h, h.Length <= MaxFrame
}
