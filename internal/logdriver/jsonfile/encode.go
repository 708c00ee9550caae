package jsonfile

import (
	"time"
	"unicode/utf8"

	"muelle/internal/logdriver"
)

// encode appends one entry made of two pieces of a line to the buffer.
func (w *Writer) encode(s logdriver.Stream, head, tail []byte, at time.Time) {
	b := append(w.buf, `{"log":"`...)
	if len(head) > 0 {
		// The pieces may meet inside a UTF-8 sequence, so they are escaped as one.
		w.joined = append(append(w.joined[:0], head...), tail...)
		b = appendEscaped(b, w.joined)
	} else {
		b = appendEscaped(b, tail)
	}
	if s == logdriver.Stderr {
		b = append(b, `","stream":"stderr"`...)
	} else {
		b = append(b, `","stream":"stdout"`...)
	}
	if w.extra != "" {
		b = append(b, `,"attrs":`...)
		b = append(b, w.extra...)
	}
	b = append(b, `,"time":"`...)
	b = at.UTC().AppendFormat(b, time.RFC3339Nano)
	w.buf = append(b, "\"}\n"...)
}

const hexDigits = "0123456789abcdef"

// appendEscaped writes p as the inside of a JSON string. Bytes that are not UTF-8
// become the replacement character, as in Docker's logs.
func appendEscaped(b, p []byte) []byte {
	start := 0
	for i := 0; i < len(p); {
		c := p[i]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRune(p[i:])
			if r == utf8.RuneError && size == 1 {
				b = append(append(b, p[start:i]...), `\ufffd`...)
				start = i + 1
			}
			i += size
			continue
		}
		if c >= ' ' && c != '"' && c != '\\' && c != 0x7f {
			i++
			continue
		}
		b = append(b, p[start:i]...)
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, `\n`...)
		case '\r':
			b = append(b, `\r`...)
		case '\t':
			b = append(b, `\t`...)
		default:
			b = append(b, `\u00`...)
			b = append(b, hexDigits[c>>4], hexDigits[c&15])
		}
		i++
		start = i
	}
	return append(b, p[start:]...)
}
