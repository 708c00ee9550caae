package program

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"io"
	"strings"

	"golang.org/x/sys/unix"
)

// object is what the kernel and the loader read of an ELF file. debug/elf goes by the
// section headers, which a loader does not need and whose sizes a stranger chooses;
// this goes by the program headers (elf(5)) and reads little, whatever they say.
type object struct {
	interpreter string
	needed      []string
	paths       []string // DT_RPATH and DT_RUNPATH
}

const (
	maxHeaders = 128
	maxDynamic = 4096 // entries
	maxName    = 4096
)

var errELF = errors.New("not an ELF file that can be read")

type segment struct {
	kind                elf.ProgType
	offset, vaddr, size uint64
}

// parseELF reads a little-endian file of either class.
func parseELF(r io.ReaderAt) (*object, error) {
	var ident [64]byte
	if n, _ := r.ReadAt(ident[:], 0); n < 52 || string(ident[:4]) != elf.ELFMAG || ident[5] != byte(elf.ELFDATA2LSB) {
		return nil, errELF
	}
	le := binary.LittleEndian
	wide := ident[4] == byte(elf.ELFCLASS64)
	offset, size, count := uint64(le.Uint32(ident[28:])), le.Uint16(ident[42:]), le.Uint16(ident[44:])
	least := uint16(32)
	if wide {
		offset, size, count, least = le.Uint64(ident[32:]), le.Uint16(ident[54:]), le.Uint16(ident[56:]), 56
	}
	if size < least || size > 256 || count > maxHeaders {
		return nil, errELF
	}
	o := &object{}
	var segments []segment
	buf := make([]byte, size)
	for i := range uint64(count) {
		if _, err := readAt(r, buf, offset+i*uint64(size)); err != nil {
			return nil, err
		}
		s := segment{kind: elf.ProgType(le.Uint32(buf)), offset: uint64(le.Uint32(buf[4:])), vaddr: uint64(le.Uint32(buf[8:])), size: uint64(le.Uint32(buf[16:]))}
		if wide {
			s = segment{kind: s.kind, offset: le.Uint64(buf[8:]), vaddr: le.Uint64(buf[16:]), size: le.Uint64(buf[32:])}
		}
		segments = append(segments, s)
	}
	for _, s := range segments {
		switch s.kind {
		case elf.PT_INTERP:
			o.interpreter = cString(r, s.offset, min(s.size, unix.PathMax))
		case elf.PT_DYNAMIC:
			o.dynamic(r, s, segments, wide)
		}
	}
	return o, nil
}

// readAt reads all of buf; offsets come from the file.
func readAt(r io.ReaderAt, buf []byte, offset uint64) (int, error) {
	if offset > 1<<62 {
		return 0, errELF
	}
	n, err := r.ReadAt(buf, int64(offset))
	if n == len(buf) {
		return n, nil
	}
	if err == nil {
		err = errELF
	}
	return n, err
}

func cString(r io.ReaderAt, offset, most uint64) string {
	buf := make([]byte, most)
	n, _ := readAt(r, buf, offset) // what there is
	s, _, _ := strings.Cut(string(buf[:n]), "\x00")
	return s
}

// dynamic reads the entries of the dynamic section; names are offsets into a table
// whose address DT_STRTAB says.
func (o *object) dynamic(r io.ReaderAt, s segment, all []segment, wide bool) {
	le, width := binary.LittleEndian, uint64(8)
	if wide {
		width = 16
	}
	var names, paths []uint64
	var table uint64
	buf := make([]byte, width)
	for i := range min(s.size/width, maxDynamic) {
		if _, err := readAt(r, buf, s.offset+i*width); err != nil {
			break
		}
		tag, value := elf.DynTag(int32(le.Uint32(buf))), uint64(le.Uint32(buf[4:]))
		if wide {
			tag, value = elf.DynTag(int64(le.Uint64(buf))), le.Uint64(buf[8:])
		}
		switch tag {
		case elf.DT_STRTAB:
			table = value
		case elf.DT_NEEDED:
			names = append(names, value)
		case elf.DT_RPATH, elf.DT_RUNPATH:
			paths = append(paths, value)
		}
		if tag == elf.DT_NULL {
			break
		}
	}
	for _, load := range all {
		if load.kind != elf.PT_LOAD || table < load.vaddr || table-load.vaddr >= load.size {
			continue
		}
		at := load.offset + table - load.vaddr
		for _, n := range names[:min(len(names), maxLibraries)] {
			if name := cString(r, at+n, maxName); name != "" {
				o.needed = append(o.needed, name)
			}
		}
		for _, p := range paths[:min(len(paths), 4)] {
			o.paths = append(o.paths, strings.Split(cString(r, at+p, maxName), ":")...)
		}
		return
	}
}
