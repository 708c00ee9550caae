package shim

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"muelle/internal/logdriver/jsonfile"
	"muelle/internal/shimapi"
)

// Buffers lie outside Go's heap, where what is not used any more can be given back at
// once and exactly, and where they are no garbage: the first collection of garbage alone
// costs a shim a quarter of a MiB for good.

const (
	readSize  = 32 << 10
	oobSize   = 4 << 10
	chunkSize = 128 << 10 // more than a pipe holds
	areaSize  = readSize + oobSize + jsonfile.BufferSize
	tidyAfter = time.Second
	// muchGarbage is when a collection is worth what it costs, in bytes: what some fifty
	// execs leave. The runtime's own statistics cannot be asked: to count, it would
	// move what it holds for its threads to lists, and those are what a collection costs.
	muchGarbage = 512 << 10
	// What is left of an exec, of any request and its answer, of a log's rotation and of each
	// file there, of a relayed connection, and of a relayed datagram or message.
	execGarbage, requestGarbage  = 10 << 10, 512
	rotationGarbage, fileGarbage = 3 << 10, 384
	pairGarbage, messageGarbage  = 1 << 10, 256
)

// area is memory that is only used while one event is handled.
type area struct {
	all     []byte
	scratch []byte // for one read, shared by all
	oob     []byte // for its descriptors
	log     []byte
}

func newArea() (a area, err error) {
	if a.all, err = mapped(areaSize); err != nil {
		return a, err
	}
	a.scratch = a.all[:readSize:readSize]
	a.oob = a.all[readSize:][:unix.CmsgSpace(shimapi.MaxFDs*4)]
	a.log = a.all[readSize+oobSize:]
	return a, nil
}

func mapped(size int) ([]byte, error) {
	at, err := unix.MmapPtr(-1, 0, nil, uintptr(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, err
	}
	return unsafe.Slice((*byte)(at), size), nil
}

// backlog is what somebody has not taken yet.
type backlog struct {
	rest  []byte
	chunk []byte // where it lies, unless it is larger than that
}

func (b *backlog) add(l *loop, p []byte) {
	if b.rest == nil && b.chunk == nil {
		b.chunk = l.chunk()
		b.rest = b.chunk[:0]
	}
	b.rest = append(b.rest, p...)
}

func (b *backlog) took(n int) { b.rest = b.rest[n:] }

func (b *backlog) clear(l *loop) {
	if b.chunk != nil {
		l.spare = append(l.spare, b.chunk)
	}
	*b = backlog{}
}

// chunk is room for a backlog, or nil where there is no memory: then Go's heap says so.
func (l *loop) chunk() []byte {
	if n := len(l.spare); n > 0 {
		c := l.spare[n-1]
		l.spare = l.spare[:n-1]
		return c
	}
	c, _ := mapped(chunkSize)
	return c
}

// tidy gives memory back, between two events. It is called a second after the shim had
// something to do, also where that goes on.
func (l *loop) tidy() {
	for _, c := range l.spare {
		unix.MunmapPtr(unsafe.Pointer(unsafe.SliceData(c)), uintptr(len(c)))
	}
	l.spare = nil
	unix.Madvise(l.all, unix.MADV_DONTNEED)
	if l.stale > renewAfter {
		l.renew()
	}
	if l.garbage > muchGarbage {
		l.garbage = 0
		freeOSMemory()
	}
}

// freeOSMemory is that of runtime/debug, which would link fmt and os.
//
//go:linkname freeOSMemory runtime/debug.freeOSMemory
func freeOSMemory()
