package shimapi

import "errors"

// ErrMalformed says that bytes are not a message of this protocol.
var ErrMalformed = errors.New("malformed shim message")

// coder writes or reads fields, in one order given by a message's fields method,
// so that both directions cannot differ. A reader that runs out of bytes exactly
// between two fields leaves the rest zero: fields are only ever appended, and a
// message of an older peer stays readable. Bytes beyond the known fields are
// ignored for the same reason.
type coder struct {
	buf     []byte
	reading bool
	ended   bool // reading: the peer knows no further fields
	err     error
}

func (c *coder) fail() {
	if c.err == nil {
		c.err = ErrMalformed
	}
	c.buf = nil
}

// more tells a reader whether a field is there.
func (c *coder) more() bool {
	if c.err != nil || c.ended {
		return false
	}
	if len(c.buf) == 0 {
		c.ended = true
		return false
	}
	return true
}

func (c *coder) uint(v *uint64) {
	if !c.reading {
		x := *v
		for x >= 0x80 {
			c.buf = append(c.buf, byte(x)|0x80)
			x >>= 7
		}
		c.buf = append(c.buf, byte(x))
		return
	}
	if !c.more() {
		return
	}
	*v = c.take()
}

func (c *coder) take() (x uint64) {
	for i := 0; i < 10; i++ {
		if i >= len(c.buf) {
			break
		}
		b := c.buf[i]
		if i == 9 && b > 1 {
			break
		}
		x |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
			c.buf = c.buf[i+1:]
			return x
		}
	}
	c.fail()
	return 0
}

func integer[T ~int | ~int32 | ~int64](c *coder, v *T) {
	u := uint64(*v)<<1 ^ uint64(int64(*v)>>63)
	c.uint(&u)
	if !c.reading {
		return
	}
	s := int64(u>>1) ^ -int64(u&1)
	*v = T(s)
	if int64(*v) != s {
		c.fail()
	}
}

func unsigned[T ~uint8 | ~uint16 | ~uint32 | ~uint64](c *coder, v *T) {
	u := uint64(*v)
	c.uint(&u)
	if !c.reading {
		return
	}
	*v = T(u)
	if uint64(*v) != u {
		c.fail()
	}
}

func (c *coder) bool(v *bool) {
	var u uint64
	if *v {
		u = 1
	}
	c.uint(&u)
	if c.reading {
		*v = u != 0
	}
}

func (c *coder) bytes(v *[]byte) {
	n := uint64(len(*v))
	if !c.reading {
		c.uint(&n)
		c.buf = append(c.buf, *v...)
		return
	}
	if !c.more() {
		return
	}
	n = c.take()
	if n > uint64(len(c.buf)) {
		c.fail()
		return
	}
	*v = c.buf[:n:n]
	if n == 0 {
		*v = nil
	}
	c.buf = c.buf[n:]
}

func (c *coder) string(v *string) {
	if !c.reading {
		n := uint64(len(*v))
		c.uint(&n)
		c.buf = append(c.buf, *v...)
		return
	}
	var b []byte
	c.bytes(&b)
	*v = string(b)
}

// message nests one message, length first, so that it may grow by itself.
func (c *coder) message(fields func(*coder)) {
	if !c.reading {
		start := len(c.buf)
		fields(c)
		c.prefix(start)
		return
	}
	in := coder{reading: true}
	c.bytes(&in.buf)
	if c.err != nil {
		return
	}
	fields(&in)
	c.err = in.err
}

// prefix puts the length of what was written since before it.
func (c *coder) prefix(start int) {
	end := len(c.buf)
	n := uint64(end - start)
	c.uint(&n)
	var length [10]byte
	size := copy(length[:], c.buf[end:])
	copy(c.buf[start+size:], c.buf[start:end])
	copy(c.buf[start:], length[:size])
}

const maxList = 1 << 16

// list codes a slice; each element takes at least one byte, which bounds what a
// short message can make a reader allocate.
func list[T any](c *coder, v *[]T, element func(*coder, *T)) {
	n := uint64(len(*v))
	c.uint(&n)
	if c.reading {
		if c.err != nil || n > uint64(len(c.buf)) || n > maxList {
			if n > 0 {
				c.fail()
			}
			return
		}
		if n == 0 {
			return
		}
		*v = make([]T, n)
	}
	for i := range *v {
		element(c, &(*v)[i])
	}
}

func (c *coder) strings(v *[]string) {
	list(c, v, func(c *coder, s *string) { c.string(s) })
}
