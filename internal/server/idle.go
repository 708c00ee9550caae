package server

import "time"

// quiet is how long no request must have come or ended before the engine is idle.
const quiet = 5 * time.Second

// idle calls f once whenever the server has been quiet for a while: the moment to
// give memory back.
type idle struct{ timer *time.Timer }

func newIdle(f func()) *idle {
	if f == nil {
		return &idle{}
	}
	return &idle{timer: time.AfterFunc(quiet, f)}
}

func (i *idle) touch() {
	if i.timer != nil {
		i.timer.Reset(quiet)
	}
}

func (i *idle) stop() {
	if i.timer != nil {
		i.timer.Stop()
	}
}
