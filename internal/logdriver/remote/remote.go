// Package remote sends a container's output to a service on a socket: syslog and
// the journal. It is linked into the shim, one of which runs per container, so it
// speaks to the kernel directly and imports neither net, log/syslog nor crypto/tls.
// It never waits: what the service does not take yet is kept, and the shim, which
// watches the socket, says when to go on. A service that is away is tried again and
// again; meanwhile a bounded number of messages is kept, what comes then is lost to
// it, and the container does not wait.
package remote

import (
	"time"

	"golang.org/x/sys/unix"

	"muelle/internal/logdriver"
)

// Limits in bytes. A container waits once so much is on the way to a service that
// is slow; what is kept for one that is away, or with non-blocking mode.
const (
	highWater     = 64 << 10
	defaultBuffer = 1 << 20
)

// The wait before the service is tried again doubles from the first to the second.
const (
	firstRetry = 100 * time.Millisecond
	lastRetry  = 5 * time.Second
)

// DialPatience is how long the first connection may take: a container whose service
// does not answer is not started, as with Docker.
const DialPatience = 5 * time.Second

// Writer implements logdriver.Writer. It is not safe for concurrent use.
type Writer struct {
	cfg    logdriver.Remote
	format func(w *Writer, s logdriver.Stream, head, tail []byte, at time.Time)
	lines  logdriver.Splitter
	pid    int

	// Closing, unless nil, is told of a socket that is about to be closed.
	Closing func(fd int)

	// helper starts the program that makes the connection, and gives the socket to it.
	helper   func(args []string) (fd int, err error)
	greeting bool // it has not said yet how that went
	begun    time.Time

	fd         int // -1: not connected
	connecting bool
	retry      time.Duration
	next       time.Time // when to try again

	// queue holds whole messages that were not taken; ends are their ends in it, and
	// sent is how much of the first one a stream has taken.
	queue []byte
	ends  []int
	sent  int
	lost  uint64
	seq   uint64
	part  partial
}

// New connects to the service. pid is what messages say; helper starts cfg.Helper and
// gives a socket to it, which does not block.
func New(cfg logdriver.Remote, pid int, helper func(args []string) (fd int, err error)) (*Writer, error) {
	w := &Writer{cfg: cfg, fd: -1, pid: pid, format: syslog, helper: helper}
	// They may point into a buffer that is used again.
	w.cfg.Addr, w.cfg.Fields = append([]byte(nil), cfg.Addr...), append([]byte(nil), cfg.Fields...)
	if cfg.Kind == "journald" {
		w.format = journal
		var err error
		if w.part.seed, err = newSeed(); err != nil {
			return nil, err
		}
	}
	if w.cfg.Buffer <= 0 {
		w.cfg.Buffer = defaultBuffer
	}
	if err := w.dial(); err != nil {
		return nil, err
	}
	patience := DialPatience
	if w.helping() {
		patience += time.Second // it says itself why it gives up
	}
	if err := w.await(patience); err != nil {
		w.disconnect()
		return nil, err
	}
	return w, nil
}

// Write implements logdriver.Writer: it splits p into messages and sends what the
// service takes. What is lost by a full buffer is counted, no error.
func (w *Writer) Write(s logdriver.Stream, p []byte, at time.Time) error {
	for len(p) > 0 {
		head, tail, rest, when, ok := w.lines.Next(s, p, at)
		if !ok {
			break
		}
		w.add(s, head, tail, when)
		p = rest
	}
	w.Flush()
	return nil
}

// Partial implements logdriver.Writer.
func (w *Writer) Partial() uint64 { return w.lines.Partial() }

// Close queues what is left of unfinished lines. The socket stays open until
// Pending is 0 or Drop is called.
func (w *Writer) Close() error {
	for _, s := range []logdriver.Stream{logdriver.Stdout, logdriver.Stderr} {
		if line, when := w.lines.Rest(s); len(line) > 0 {
			w.add(s, nil, line, when)
		}
	}
	w.Flush()
	return nil
}

// add queues one message. An empty line is none, as with Docker.
func (w *Writer) add(s logdriver.Stream, head, tail []byte, at time.Time) {
	start := len(w.queue)
	limit := int(w.cfg.Buffer)
	if w.fd >= 0 && !w.connecting && !w.cfg.NonBlocking {
		limit = 1 << 30 // bounded by the shim, which stops reading at highWater
	}
	if start > limit {
		w.lost++
		return
	}
	w.format(w, s, head, tail, at)
	if len(w.queue) > start {
		w.ends = append(w.ends, len(w.queue))
	}
}

// FD is the socket to watch for being writable while Pending is not 0, or -1.
func (w *Writer) FD() int { return w.fd }

// Greeting tells that FD is to be watched for being readable: a helper connects.
func (w *Writer) Greeting() bool { return w.greeting }

// Pending is how many bytes wait for the service.
func (w *Writer) Pending() int { return len(w.queue) - w.sent }

// Full tells that the container has to wait: the service is there, and slow.
func (w *Writer) Full() bool {
	return !w.cfg.NonBlocking && w.fd >= 0 && !w.connecting && w.Pending() > highWater
}

// Retry is when to call Flush again although the socket says nothing; zero: never.
func (w *Writer) Retry() time.Time {
	if w.fd >= 0 {
		return time.Time{}
	}
	return w.next
}

// Lost gives, once, how many messages did not fit and are gone.
func (w *Writer) Lost() uint64 {
	n := w.lost
	w.lost = 0
	return n
}

// Drop gives up what waits and closes the socket.
func (w *Writer) Drop() {
	w.lost += uint64(len(w.ends))
	w.queue, w.ends, w.sent = nil, nil, 0
	w.disconnect()
}

// Flush sends as much as the service takes now.
func (w *Writer) Flush() {
	if len(w.queue) == 0 {
		return
	}
	again := true // a connection that broke is replaced at once, the first time
	for len(w.queue) > 0 {
		if !w.connected() {
			return
		}
		err := w.send()
		if err == unix.EAGAIN {
			return
		}
		if err == nil {
			continue
		}
		w.disconnect()
		if !again || w.helping() { // processes are not started as fast as messages come
			w.later()
			return
		}
		again, w.next = false, time.Time{}
	}
	if cap(w.queue) > 2*highWater {
		w.queue = nil
	}
}

// taken removes n messages from the head of the queue.
func (w *Writer) taken(n int) {
	if n == 0 {
		return
	}
	cut := w.ends[n-1]
	rest := copy(w.queue, w.queue[cut:])
	w.queue = w.queue[:rest]
	m := copy(w.ends, w.ends[n:])
	w.ends = w.ends[:m]
	for i := range w.ends {
		w.ends[i] -= cut
	}
	w.sent = max(0, w.sent-cut)
	if !w.helping() || time.Since(w.begun) > lastRetry {
		w.retry = 0
	}
}
