package server

import (
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"muelle/internal/container"
	"muelle/internal/logdriver"
)

// containerLogs sends what a container printed, framed unless it has a terminal.
func (s *Server) containerLogs(w *reply, r *request) error {
	q := r.URL.Query()
	o, err := logOptions(q)
	if err != nil {
		return err
	}
	entries, tty, err := s.o.Containers.Logs(r.Context(), r.name, o)
	if err != nil {
		return err
	}
	contentType := rawStream
	if !tty && r.version >= 42 {
		contentType = multiplexedStream
	}
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(http.StatusOK)
	w.flush()
	out := newLogWriter(w, tty, boolOf(q, "timestamps"), boolOf(q, "details"))
	for entry, err := range entries {
		if err != nil {
			// The status has been sent: Docker tells it in the stream of errors, too.
			out.fail(err)
			return err
		}
		if out.write(entry) != nil {
			return nil
		}
		if o.Follow {
			w.flush()
		}
	}
	return nil
}

func logOptions(q url.Values) (container.LogOptions, error) {
	o := container.LogOptions{Follow: boolOf(q, "follow")}
	o.Stdout, o.Stderr = boolOf(q, "stdout"), boolOf(q, "stderr")
	if !o.Stdout && !o.Stderr {
		return o, badRequest("Bad parameters: you must choose at least one stream")
	}
	var err error
	if o.Since, err = timeOf(q, "since"); err != nil {
		return o, err
	}
	if o.Until, err = timeOf(q, "until"); err != nil {
		return o, err
	}
	o.Tail = -1
	// As Docker, anything that is no number means all.
	if n, err := strconv.Atoi(q.Get("tail")); err == nil {
		o.Tail = n
	}
	return o, nil
}

// logTime is RFC 3339 with all nine digits, so that columns stay aligned.
const logTime = "2006-01-02T15:04:05.000000000Z07:00"

type logWriter struct {
	stdout, stderr      io.Writer
	timestamps, details bool
	partial             [3]bool // by stream: the last entry had no newline
	line                []byte
}

func newLogWriter(w io.Writer, tty, timestamps, details bool) *logWriter {
	l := &logWriter{timestamps: timestamps, details: details}
	l.stdout, l.stderr = (&framer{w: w, raw: tty}).outputs()
	return l
}

func (l *logWriter) write(e logdriver.Entry) error {
	out := l.stdout
	if e.Stream == logdriver.Stderr {
		out = l.stderr
	}
	line := e.Line
	// The prefixes belong to the line, not to each of its pieces.
	if begins := !l.partial[e.Stream%3]; begins && (l.timestamps || l.details) {
		l.line = l.line[:0]
		if l.timestamps {
			l.line = append(e.Time.UTC().AppendFormat(l.line, logTime), ' ')
		}
		if l.details {
			l.line = append(append(l.line, attributes(e.Attrs)...), ' ')
		}
		l.line = append(l.line, e.Line...)
		line = l.line
	}
	l.partial[e.Stream%3] = e.Partial
	_, err := out.Write(line)
	return err
}

func (l *logWriter) fail(err error) {
	_, _ = io.WriteString(l.stderr, "Error grabbing logs: "+err.Error()+"\n")
}

// attributes are written as Docker does: k=v,k=v with both escaped.
func attributes(attrs map[string]string) string {
	pairs := make([]string, 0, len(attrs))
	for k, v := range attrs {
		pairs = append(pairs, url.QueryEscape(k)+"="+url.QueryEscape(v))
	}
	slices.Sort(pairs)
	return strings.Join(pairs, ",")
}
