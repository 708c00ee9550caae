// Package shimfile is the layout of the file muelle-shim as it is built and installed:
// the program muelle-oci, which runs where the file is executed, then muelle-shim, which
// it carries, and a trailer that says where. So muelle-oci is a link to muelle-shim, and
// yet the process beside each container has nothing of an OCI runtime in its memory:
// whoever starts one takes the carried program out. What `go build ./cmd/muelle-shim`
// makes has no trailer: all of it is the shim.
package shimfile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// Program is where in a file the shim's program lies, in bytes.
type Program struct {
	Offset, Size int64

	sum     uint32
	carried bool
}

// The trailer: numbers are little-endian, sums CRC-32C.
const (
	atTotal    = 0  // uint64: size of the whole file
	atOffset   = 8  // uint64: of the shim
	atSize     = 16 // uint64: of the shim
	atSum      = 24 // uint32: of the shim
	atOwnSum   = 28 // uint32: of the trailer up to here
	atMagic    = 32
	trailerLen = atMagic + len(magic)

	// magic ends a whole file. It is also a constant of every program that links this
	// package, such as muelle-oci: by that one is known that has lost what it carried.
	magic = "\x7fmuelle-oci carries muelle-shim\n"
	elf   = "\x7fELF"
	page  = 4096 // a copy into memory is quicker by whole pages
)

var errDamaged = errors.New("is damaged: install it again")

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// Carried gives the shim that a file of this many bytes carries. The second result is
// false where it carries none and does not claim to; a claim that cannot be true is an
// error.
func Carried(f io.ReaderAt, size int64) (Program, bool, error) {
	if size < int64(trailerLen) {
		return Program{}, false, nil
	}
	t := make([]byte, trailerLen)
	if _, err := f.ReadAt(t, size-int64(trailerLen)); err != nil {
		return Program{}, false, err
	}
	if string(t[atMagic:]) != magic {
		return Program{}, false, nil
	}
	e := binary.LittleEndian
	total, offset, length := e.Uint64(t[atTotal:]), e.Uint64(t[atOffset:]), e.Uint64(t[atSize:])
	if crc32.Checksum(t[:atOwnSum], castagnoli()) != e.Uint32(t[atOwnSum:]) || total != uint64(size) ||
		offset == 0 || offset > total || length > total || offset+length+uint64(trailerLen) != total {
		return Program{}, false, errDamaged
	}
	p := Program{Offset: int64(offset), Size: int64(length), sum: e.Uint32(t[atSum:]), carried: true}
	if !p.begins(f) {
		return Program{}, false, errDamaged
	}
	return p, true, nil
}

func (p Program) begins(f io.ReaderAt) bool {
	head := make([]byte, len(elf))
	_, err := io.ReadFull(io.NewSectionReader(f, p.Offset, p.Size), head)
	return err == nil && string(head) == elf
}

// Find gives the shim of a file of this many bytes: what it carries, or all of it. A file
// that ought to carry one and does not is an error.
func Find(f io.ReaderAt, size int64) (Program, error) {
	p, ok, err := Carried(f, size)
	if ok || err != nil {
		return p, err
	}
	p = Program{Size: size}
	if !p.begins(f) {
		return p, errors.New("is no program of Linux's")
	}
	claims, err := mentions(io.NewSectionReader(f, 0, size))
	if err != nil {
		return p, err
	}
	if claims {
		return p, errors.New("is muelle-oci and does not end with the muelle-shim that it should carry: it is incomplete, or was stripped; install it again")
	}
	return p, nil
}

// mentions looks for the magic anywhere.
func mentions(r io.Reader) (bool, error) {
	buf := make([]byte, 128<<10)
	kept := 0
	for {
		n, err := io.ReadFull(r, buf[kept:])
		if bytes.Contains(buf[:kept+n], []byte(magic)) {
			return true, nil
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		kept = copy(buf, buf[len(buf)-len(magic)+1:])
	}
}

// Verify reads a carried shim whole and compares its checksum. One that is a file of its
// own has none.
func (p Program) Verify(f io.ReaderAt) error {
	if !p.carried {
		return nil
	}
	sum := crc32.New(castagnoli())
	if _, err := io.CopyBuffer(struct{ io.Writer }{sum}, io.NewSectionReader(f, p.Offset, p.Size), make([]byte, 128<<10)); err != nil {
		return err
	}
	if sum.Sum32() != p.sum {
		return errDamaged
	}
	return nil
}

// Join makes the file of the two programs. The same programs give the same file.
func Join(oci, shim []byte) ([]byte, error) {
	for name, program := range map[string][]byte{"muelle-oci": oci, "muelle-shim": shim} {
		if !bytes.HasPrefix(program, []byte(elf)) {
			return nil, fmt.Errorf("%s is no program of Linux's", name)
		}
		if bytes.HasSuffix(program, []byte(magic)) {
			return nil, fmt.Errorf("%s has been joined already", name)
		}
		if bytes.Contains(program, []byte(magic)) != (name == "muelle-oci") {
			return nil, fmt.Errorf("what is given as %s is another program", name)
		}
	}
	offset := (len(oci) + page - 1) / page * page
	out := make([]byte, offset, offset+len(shim)+trailerLen)
	copy(out, oci)
	out = append(out, shim...)
	e := binary.LittleEndian
	t := e.AppendUint64(nil, uint64(cap(out)))
	t = e.AppendUint64(t, uint64(offset))
	t = e.AppendUint64(t, uint64(len(shim)))
	t = e.AppendUint32(t, crc32.Checksum(shim, castagnoli()))
	t = e.AppendUint32(t, crc32.Checksum(t[:atOwnSum], castagnoli()))
	return append(append(out, t...), magic...), nil
}
