// Package pcap writes and reads packets in the classic file format of libpcap, which
// tcpdump and Wireshark know: https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-04.html.
// Little-endian, with nanoseconds, Ethernet.
package pcap

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"
)

const (
	magic      = 0xa1b23c4d // nanoseconds
	headerSize = 24
	recordSize = 16
	ethernet   = 1
)

// MaxSnapLen is the most that is taken of a packet.
const MaxSnapLen = 262144

// Header is the beginning of a file of packets cut off after snaplen bytes.
func Header(snaplen int) []byte {
	b := make([]byte, headerSize)
	le := binary.LittleEndian
	le.PutUint32(b, magic)
	le.PutUint16(b[4:], 2)
	le.PutUint16(b[6:], 4)
	le.PutUint32(b[16:], uint32(snaplen))
	le.PutUint32(b[20:], ethernet)
	return b
}

// Append appends a packet to b; length is its length on the wire, of which data is the
// beginning.
func Append(b []byte, at time.Time, length int, data []byte) []byte {
	le := binary.LittleEndian
	b = le.AppendUint32(b, uint32(at.Unix()))
	b = le.AppendUint32(b, uint32(at.Nanosecond()))
	b = le.AppendUint32(b, uint32(len(data)))
	b = le.AppendUint32(b, uint32(length))
	return append(b, data...)
}

// Packet is one record.
type Packet struct {
	At     time.Time
	Length int // on the wire
	Data   []byte
}

// Reader reads what Header and Append make.
type Reader struct {
	r   io.Reader
	buf []byte
}

// NewReader reads the header.
func NewReader(r io.Reader) (*Reader, error) {
	h := make([]byte, headerSize)
	if _, err := io.ReadFull(r, h); err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	if le.Uint32(h) != magic || le.Uint32(h[20:]) != ethernet {
		return nil, errors.New("no file of Ethernet packets with nanoseconds")
	}
	return &Reader{r: r}, nil
}

// Next gives the next packet, whose data is valid until the next call; io.EOF after
// the last.
func (r *Reader) Next() (Packet, error) {
	var h [recordSize]byte
	if _, err := io.ReadFull(r.r, h[:]); err != nil {
		return Packet{}, err
	}
	le := binary.LittleEndian
	n := le.Uint32(h[8:])
	if n > MaxSnapLen {
		return Packet{}, fmt.Errorf("a packet of %d bytes", n)
	}
	if uint32(cap(r.buf)) < n {
		r.buf = make([]byte, n)
	}
	if _, err := io.ReadFull(r.r, r.buf[:n]); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return Packet{}, err
	}
	return Packet{At: time.Unix(int64(le.Uint32(h[:])), int64(le.Uint32(h[4:]))), Length: int(le.Uint32(h[12:])), Data: r.buf[:n]}, nil
}
