package shim

import (
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"muelle/internal/logdriver"
	"muelle/internal/logdriver/jsonfile"
	"muelle/internal/logdriver/remote"
	"muelle/internal/shimapi"
)

// lastPatience is how long messages of an ended container may still be on the way to
// a slow service.
const lastPatience = 5 * time.Second

// output is where the container's output is logged: a file, a service, or both.
type output struct {
	s       *shim
	file    *jsonfile.Writer // nil: none
	remote  *remote.Writer   // nil: none
	holding bool             // the container waits for the service
	timed   bool             // a retry is on its way
	closed  bool             // nothing comes any more
	lost    uint64           // messages that the service did not take
}

// openLog opens what a container's log needs; nil where it has none.
func (s *shim) openLog(m *shimapi.Start) (*output, error) {
	o := &output{s: s}
	if m.Log.Path != "" && m.Log.Type != "none" {
		w, err := jsonfile.NewWriter(&m.Log)
		if err != nil {
			return nil, wrap("open log", err)
		}
		w.Use(s.loop.log)
		o.file = w
	}
	if m.Log.Remote.Kind != "" {
		if err := o.openRemote(m); err != nil {
			return nil, err
		}
	}
	if o.file == nil && o.remote == nil {
		return nil, nil
	}
	return o, nil
}

//go:noinline
func (o *output) openRemote(m *shimapi.Start) error {
	w, err := remote.New(m.Log.Remote, unix.Getpid(), o.s.helper)
	if err != nil {
		o.s.endHelpers()
		return &failure{code: shimapi.CodeLog, text: err.Error()}
	}
	w.Closing = o.s.loop.ignore
	o.remote = w
	return nil
}

// write logs what a stream gave.
func (o *output) write(stream logdriver.Stream, p []byte) {
	now := time.Now()
	if o.file != nil {
		_, number := o.file.Position()
		if err := o.file.Write(stream, p, now); err != nil {
			o.s.logged.Unwritten++
			o.s.complain("write log", err)
		}
		o.s.logged.Partial = o.file.Partial()
		if _, n := o.file.Position(); n != number {
			// The folder is listed.
			o.s.loop.litter(rotationGarbage + fileGarbage*min(n, o.s.start.Log.MaxFile))
		}
	}
	if o.remote != nil {
		_ = o.remote.Write(stream, p, now) // it has no failure: it counts what is lost
		o.s.logged.Partial = o.remote.Partial()
		o.settle()
	}
}

// ready: the service takes more, or the connection has ended.
func (o *output) ready(uint32) {
	o.remote.Flush()
	o.settle()
}

// settle asks to be told when the service takes more, holds the container up while
// it is slow, and tries one that is away again later.
func (o *output) settle() {
	if n := o.remote.Lost(); n > 0 {
		if o.lost == 0 {
			o.s.complain("log", &failure{text: "the service does not take every message"})
		}
		o.lost += n
		o.s.logged.Unwritten += n
	}
	fd, pending := o.remote.FD(), o.remote.Pending() > 0
	switch {
	case fd < 0:
	case pending:
		events := uint32(unix.EPOLLOUT)
		if o.remote.Greeting() {
			events = unix.EPOLLIN
		}
		if err := o.s.loop.watch(fd, events, o); err != nil {
			o.s.complain("watch log", err)
		}
	default:
		o.s.loop.ignore(fd)
	}
	if at := o.remote.Retry(); pending && fd < 0 && !at.IsZero() && !o.timed {
		o.timed = true
		o.s.loop.after(time.Until(at), func() {
			o.timed = false
			if o.remote != nil {
				o.ready(0)
			}
		})
	}
	if full := o.remote.Full(); full != o.holding {
		o.hold(full)
	}
	if o.closed && !pending {
		o.give()
	}
}

func (o *output) hold(on bool) {
	o.holding = on
	if o.s.main == nil {
		return
	}
	for _, src := range o.s.main.outputs {
		if src.log != o {
			continue
		}
		if on {
			src.block()
		} else {
			src.unblock()
		}
	}
}

// close ends the log. Messages that the service has not taken yet may follow for a
// moment.
func (o *output) close() {
	if o.file != nil {
		if err := o.file.Close(); err != nil {
			o.s.complain("close log", err)
		}
	}
	o.closed = true
	if o.remote == nil {
		return
	}
	_ = o.remote.Close()
	o.s.loop.after(lastPatience, o.give)
	o.settle()
}

// busy tells that the shim must not end yet.
func (o *output) busy() bool { return o.remote != nil }

// give closes the connection, whatever still waits.
func (o *output) give() {
	if o.remote == nil {
		return
	}
	r := o.remote
	if o.holding {
		o.hold(false)
	}
	r.Drop()
	if o.lost += r.Lost(); o.lost > 0 {
		o.s.complain("log", &failure{text: strconv.FormatUint(o.lost, 10) + " messages were not taken by the service"})
	}
	o.remote = nil
	o.s.maybeQuit()
}
