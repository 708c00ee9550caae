package display

import (
	"io"
	"time"
)

// NewTestProgress draws as on a terminal of that size, when asked, with a clock that
// advances a second at each look.
func NewTestProgress(out io.Writer, width, height int) *Progress {
	t := time.Unix(0, 0)
	p := &Progress{out: out, mode: ModeTTY, title: "up", tasks: map[string]*task{}, stop: make(chan struct{})}
	p.now = func() time.Time { t = t.Add(time.Second); return t }
	p.width = func() (int, int) { return width, height }
	return p
}
