package display

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
)

// rainbow are the colours of containers, in the order in which they appear.
var rainbow = []string{"36", "33", "32", "35", "34", "36;1", "33;1", "32;1", "35;1", "34;1"}

// Logs prints lines of many containers, whole lines only. It is safe for
// concurrent use.
type Logs struct {
	out, err io.Writer
	color    bool
	prefix   bool

	mu     sync.Mutex
	names  []string
	width  int
	beside func(write func())
}

// NewLogs prints to out what containers print to stdout and to err what they print
// to stderr.
func NewLogs(out, err io.Writer, color, prefix bool) *Logs {
	return &Logs{out: out, err: err, color: color, prefix: prefix}
}

// Share lets lines pass through what else draws on the terminal (Progress.Beside).
func (l *Logs) Share(beside func(write func())) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.beside = beside
}

func (l *Logs) write(w io.Writer, s string) {
	if l.beside == nil {
		_, _ = io.WriteString(w, s)
		return
	}
	l.beside(func() { _, _ = io.WriteString(w, s) })
}

// Register makes room for a name and settles its colour.
func (l *Logs) Register(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.index(name)
}

func (l *Logs) index(name string) int {
	for i, n := range l.names {
		if n == name {
			return i
		}
	}
	l.names = append(l.names, name)
	l.width = max(l.width, len(name)+1)
	return len(l.names) - 1
}

func (l *Logs) lead(name string) string {
	if !l.prefix {
		return ""
	}
	i := l.index(name)
	return l.paint(i, fmt.Sprintf("%-*s | ", l.width, name))
}

func (l *Logs) paint(i int, s string) string {
	if !l.color {
		return s
	}
	return "\x1b[" + rainbow[i%len(rainbow)] + "m" + s + "\x1b[0m"
}

// Line prints one line of a container.
func (l *Logs) Line(name string, stderr bool, line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := l.out
	if stderr {
		w = l.err
	}
	l.write(w, l.lead(name)+line+"\n")
}

// Status prints what happened to a container, in its colour.
func (l *Logs) Status(name, text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	reset := ""
	if l.color {
		reset = "\r\x1b[K"
	}
	l.write(l.out, l.paint(l.index(name), reset+name+" "+text)+"\n")
}

// Note prints a line of nobody's.
func (l *Logs) Note(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.write(l.out, text+"\n")
}

// Writer cuts a stream into lines. Close prints a last one without an end.
func (l *Logs) Writer(name string, stderr bool) io.WriteCloser {
	r, w := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := bufio.NewReaderSize(r, 16<<10)
		for {
			line, err := b.ReadString('\n')
			if line = strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r"); line != "" || err == nil {
				l.Line(name, stderr, line)
			}
			if err != nil {
				if !errors.Is(err, io.EOF) {
					_ = r.CloseWithError(err)
				}
				return
			}
		}
	}()
	return &lineWriter{PipeWriter: w, done: done}
}

type lineWriter struct {
	*io.PipeWriter
	done chan struct{}
}

func (w *lineWriter) Close() error {
	err := w.PipeWriter.Close()
	<-w.done
	return err
}
