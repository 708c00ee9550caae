package buildclient

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"

	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/util/progress/progressui"
)

// Progress is a display that one or more builds draw on. The nil *Progress draws
// nothing.
type Progress struct {
	out      io.Writer
	quiet    bool
	in       chan *bkclient.SolveStatus
	done     chan struct{}
	once     sync.Once
	warnings []bkclient.VertexWarning
	err      error
}

// NewProgress starts a display on out: "auto" (also ""), "tty", "plain", "quiet" or
// "rawjson". Close ends it.
func NewProgress(out io.Writer, mode string) (*Progress, error) {
	switch mode {
	case "", "auto", "tty", "plain", "quiet", "rawjson", "none":
	default:
		return nil, fmt.Errorf("invalid progress mode %q: want auto, plain, tty, quiet or rawjson", mode)
	}
	if mode == "none" {
		mode = "quiet"
	}
	display, err := progressui.NewDisplay(out, progressui.DisplayMode(mode))
	if err != nil {
		return nil, err
	}
	p := &Progress{out: out, quiet: mode == "quiet" || mode == "rawjson", in: make(chan *bkclient.SolveStatus), done: make(chan struct{})}
	go func() {
		defer close(p.done)
		// Its end is the end of p.in; a build that is cancelled still wants its last lines drawn.
		p.warnings, p.err = display.UpdateFrom(context.Background(), p.in)
	}()
	return p, nil
}

// Close draws what is left, and the warnings about Dockerfiles. No build may be
// running on the display any more.
func (p *Progress) Close() error {
	if p == nil {
		return nil
	}
	p.once.Do(func() {
		close(p.in)
		<-p.done
		if !p.quiet {
			printWarnings(p.out, p.warnings)
		}
	})
	return p.err
}

func printWarnings(w io.Writer, warnings []bkclient.VertexWarning) {
	if len(warnings) == 0 {
		return
	}
	noun := "warnings"
	if len(warnings) == 1 {
		noun = "warning"
	}
	fmt.Fprintf(w, "\n %d %s found:\n", len(warnings), noun)
	for _, x := range warnings {
		fmt.Fprintf(w, " - %s", x.Short)
		if len(x.Range) > 0 && x.Range[0].Start != nil {
			fmt.Fprintf(w, " (line %d)", x.Range[0].Start.Line)
		}
		fmt.Fprintln(w)
	}
}

// follower is one build's share of a display.
type follower struct {
	ch   chan *bkclient.SolveStatus
	done chan struct{}
}

// follow gives the channel for one build; the build closes it.
func (p *Progress) follow(prefix string) *follower {
	f := &follower{ch: make(chan *bkclient.SolveStatus), done: make(chan struct{})}
	go func() {
		defer close(f.done)
		for st := range f.ch {
			if p == nil {
				continue
			}
			addPrefix(st, prefix)
			select {
			case p.in <- st:
			case <-p.done:
			}
		}
	}()
	return f
}

func (f *follower) wait() { <-f.done }

// addPrefix makes "[2/5] RUN make" "[web 2/5] RUN make".
func addPrefix(st *bkclient.SolveStatus, prefix string) {
	if prefix == "" {
		return
	}
	for _, v := range st.Vertexes {
		if rest, ok := strings.CutPrefix(v.Name, "["); ok {
			v.Name = "[" + prefix + " " + rest
		} else {
			v.Name = "[" + prefix + "] " + v.Name
		}
	}
}
