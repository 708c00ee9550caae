package remote

import (
	"bytes"
	"encoding/binary"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"muelle/internal/logdriver"
)

// Severities of syslog and the journal: output is informational, standard error
// an error, as Docker has it.
const (
	severityErr  = 3
	severityInfo = 6
)

func severity(s logdriver.Stream) int {
	if s == logdriver.Stderr {
		return severityErr
	}
	return severityInfo
}

// syslog queues one message. A line without content is none, as with Docker.
func syslog(w *Writer, s logdriver.Stream, head, tail []byte, at time.Time) {
	tail = bytes.TrimSuffix(tail, []byte{'\n'})
	if len(head)+len(tail) == 0 {
		return
	}
	start := len(w.queue)
	b := append(w.queue, '<')
	b = strconv.AppendInt(b, int64(w.cfg.Facility|severity(s)), 10)
	b = append(b, '>')
	switch w.cfg.Format {
	case logdriver.FormatRFC5424, logdriver.FormatRFC5424Micro:
		layout := time.RFC3339
		if w.cfg.Format == logdriver.FormatRFC5424Micro {
			layout = "2006-01-02T15:04:05.000000Z07:00"
		}
		b = append(b, "1 "...)
		b = at.AppendFormat(b, layout)
		b = join(b, w.cfg.Hostname, w.cfg.Tag)
		b = append(b, ' ')
		b = strconv.AppendInt(b, int64(w.pid), 10)
		b = join(b, w.cfg.Tag)
		b = append(b, " - "...)
	default:
		b = at.AppendFormat(b, time.Stamp)
		if w.cfg.Format == logdriver.FormatRFC3164 {
			b = join(b, w.cfg.Hostname)
		}
		b = join(b, w.cfg.Tag)
		b = append(b, '[')
		b = strconv.AppendInt(b, int64(w.pid), 10)
		b = append(b, "]: "...)
	}
	b = append(append(append(b, head...), tail...), '\n')
	if w.cfg.Framed {
		b = frame(b, start)
	}
	w.queue = b
}

// frame puts a message's length before it: RFC 5425, section 4.3.
func frame(b []byte, start int) []byte {
	length := strconv.AppendInt(nil, int64(len(b)-start), 10)
	length = append(length, ' ')
	b = append(b, length...)
	copy(b[start+len(length):], b[start:])
	copy(b[start:], length)
	return b
}

func join(b []byte, words ...string) []byte {
	for _, word := range words {
		b = append(append(b, ' '), word...)
	}
	return b
}

// partial is a line that is longer than one entry, by stream.
type partial struct {
	id      [3]uint64
	ordinal [3]int
	last    uint64
	seed    []byte // random, as hexadecimal digits: readers join what has the same id, whoever wrote it
}

// idDigits is the length of Docker's ids.
const idDigits = 64

// pad writes a number with the digits that a seed leaves.
func pad(n uint64) []byte {
	b := []byte("0000000000000000")
	d := strconv.AppendUint(nil, n, 16)
	copy(b[len(b)-len(d):], d)
	return b
}

// newSeed asks the kernel for what nobody else has.
func newSeed() ([]byte, error) {
	const digits = "0123456789abcdef"
	var raw [(idDigits - 16) / 2]byte
	if _, err := unix.Getrandom(raw[:], 0); err != nil {
		return nil, err
	}
	seed := make([]byte, 0, 2*len(raw))
	for _, c := range raw {
		seed = append(seed, digits[c>>4], digits[c&15])
	}
	return seed, nil
}

// journal queues one entry in the native protocol of systemd-journald, with the
// fields that Docker's driver sends.
func journal(w *Writer, s logdriver.Stream, head, tail []byte, at time.Time) {
	more := len(tail) == 0 || tail[len(tail)-1] != '\n'
	tail = bytes.TrimSuffix(tail, []byte{'\n'})
	w.seq++
	b := append(w.queue, w.cfg.Fields...)
	b = AppendField(b, "PRIORITY", strconv.AppendInt(nil, int64(severity(s)), 10), nil)
	b = AppendField(b, "MESSAGE", head, tail)
	b = AppendField(b, "SYSLOG_TIMESTAMP", at.UTC().AppendFormat(nil, time.RFC3339Nano), nil)
	b = AppendField(b, "CONTAINER_LOG_ORDINAL", strconv.AppendUint(nil, w.seq, 10), nil)
	p := &w.part
	if more && p.id[s] == 0 {
		p.last++
		p.id[s] = p.last
	}
	if p.id[s] != 0 {
		p.ordinal[s]++
		b = AppendField(b, "CONTAINER_PARTIAL_ID", p.seed, pad(p.id[s]))
		b = AppendField(b, "CONTAINER_PARTIAL_ORDINAL", strconv.AppendInt(nil, int64(p.ordinal[s]), 10), nil)
		b = AppendField(b, "CONTAINER_PARTIAL_LAST", strconv.AppendBool(nil, !more), nil)
		if more {
			b = AppendField(b, "CONTAINER_PARTIAL_MESSAGE", []byte("true"), nil)
		} else {
			p.id[s], p.ordinal[s] = 0, 0
		}
	}
	w.queue = b
}

// AppendField writes one field of the journal's native protocol; its value comes in
// two pieces.
func AppendField(b []byte, name string, head, tail []byte) []byte {
	b = append(b, name...)
	if bytes.IndexByte(head, '\n') < 0 && bytes.IndexByte(tail, '\n') < 0 {
		b = append(b, '=')
	} else {
		b = append(b, '\n')
		b = binary.LittleEndian.AppendUint64(b, uint64(len(head)+len(tail)))
	}
	return append(append(append(b, head...), tail...), '\n')
}
