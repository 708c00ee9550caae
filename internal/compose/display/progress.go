// Package display draws what compose commands do: the progress of networks,
// volumes, images and containers, as lines that are rewritten on a terminal and
// plain lines elsewhere, and the interleaved logs of services, each line with the
// coloured name of its container.
package display

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/docker/go-units"

	"muelle/internal/console"
)

// State is how far an object is.
type State int

// States of an object.
const (
	Working State = iota
	Done
	Warning
	Error
)

// Event is one step of one object.
type Event struct {
	ID      string // "Container zones-app-1"
	Parent  string // an image, for its layers
	Text    string // "Starting"
	Details string
	State   State
	// Current of Total bytes, for layers.
	Current, Total int64
}

// Modes of a Progress.
const (
	ModeAuto  = "auto"
	ModeTTY   = "tty"
	ModePlain = "plain"
	ModeJSON  = "json"
	ModeQuiet = "quiet"
)

// Progress shows events. Its methods are safe for concurrent use. The zero value
// shows nothing.
type Progress struct {
	out    io.Writer
	mode   string
	color  bool
	title  string
	width  func() (int, int)
	now    func() time.Time
	mu     sync.Mutex
	tasks  map[string]*task
	order  []string
	lines  int // drawn last time
	frame  int
	stop   chan struct{}
	ended  sync.WaitGroup
	closed bool
}

type task struct {
	Event
	begun, ended   time.Time
	children       []*task
	current, total int64
}

// NewProgress chooses the mode (tty where out is a terminal, else plain, for
// ModeAuto). Title is the verb of the first line of a terminal's display.
func NewProgress(out io.Writer, mode, title string, color bool) *Progress {
	if mode == "" || mode == ModeAuto {
		mode = ModePlain
		if console.IsTerminal(out) {
			mode = ModeTTY
		}
	}
	p := &Progress{out: out, mode: mode, color: color, title: title, tasks: map[string]*task{}, now: time.Now}
	p.width = func() (int, int) {
		w, h := console.Size(out)
		if w == 0 || h == 0 {
			return 80, 24
		}
		return int(w), int(h)
	}
	if mode == ModeTTY {
		p.stop = make(chan struct{})
		p.ended.Go(p.redraw)
	}
	return p
}

// On shows an event.
func (p *Progress) On(e Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	switch p.mode {
	case ModePlain:
		if e.Parent != "" && e.State == Working {
			return
		}
		_, _ = fmt.Fprintln(p.out, strings.TrimRight(fmt.Sprintf(" %s %s %s", e.ID, e.Text, e.Details), " "))
	case ModeJSON:
		p.json(e)
	case ModeTTY:
		p.keep(e)
	}
}

func (p *Progress) json(e Event) {
	line := struct {
		ID       string `json:"id,omitempty"`
		ParentID string `json:"parent_id,omitempty"`
		Status   string `json:"status,omitempty"`
		Text     string `json:"text,omitempty"`
		Details  string `json:"details,omitempty"`
		Current  int64  `json:"current,omitempty"`
		Total    int64  `json:"total,omitempty"`
	}{e.ID, e.Parent, [...]string{"Working", "Done", "Warning", "Error"}[e.State], e.Text, e.Details, e.Current, e.Total}
	if data, err := json.Marshal(line); err == nil {
		_, _ = fmt.Fprintln(p.out, string(data))
	}
}

func (p *Progress) keep(e Event) {
	key := e.Parent + "\x00" + e.ID
	t := p.tasks[key]
	if t == nil {
		t = &task{begun: p.now()}
		p.tasks[key] = t
		if parent := p.tasks["\x00"+e.Parent]; e.Parent != "" && parent != nil {
			parent.children = append(parent.children, t)
		} else {
			p.order = append(p.order, key)
		}
	}
	if e.State != Working && t.ended.IsZero() {
		t.ended = p.now()
	}
	if e.State == Working {
		t.ended = time.Time{}
	}
	t.Event = e
	t.current, t.total = max(t.current, e.Current), max(t.total, e.Total)
}

// Warn shows a warning for the user, between the lines.
func (p *Progress) Warn(text string) { p.note(p.paint("33;1", "WARN") + " " + text) }

// Note shows a line between the lines.
func (p *Progress) Note(text string) { p.note(text) }

func (p *Progress) note(text string) {
	if p.out == nil || p.mode == "" {
		return
	}
	p.Beside(func() { _, _ = fmt.Fprintln(p.out, text) })
}

// Beside lets somebody else write whole lines to the same terminal: above the
// display, which is drawn again below them.
func (p *Progress) Beside(write func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.erase()
	write()
	if p.mode == ModeTTY && !p.closed {
		p.draw()
	}
}

// Close draws the last state and ends the display.
func (p *Progress) Close() {
	if p == nil || p.mode == "" {
		return
	}
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return
	}
	p.closed = true
	if p.mode == ModeTTY {
		p.erase()
		p.draw()
		p.lines = 0 // what is drawn stays
		close(p.stop)
	}
	p.mu.Unlock()
	p.ended.Wait()
}

func (p *Progress) redraw() {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-p.stop:
			return
		case <-tick.C:
			p.mu.Lock()
			if !p.closed {
				p.frame++
				p.erase()
				p.draw()
			}
			p.mu.Unlock()
		}
	}
}

// erase puts the cursor where the last drawing began.
func (p *Progress) erase() {
	if p.lines > 0 {
		_, _ = fmt.Fprintf(p.out, "\x1b[%dA\x1b[0J", p.lines)
		p.lines = 0
	}
}

func (p *Progress) draw() {
	if len(p.order) == 0 {
		return
	}
	width, height := p.width()
	shown := p.order
	if len(shown) > height-2 {
		shown = shown[:max(height-3, 1)]
	}
	done, column := 0, 0
	for _, key := range p.order {
		if p.tasks[key].State != Working {
			done++
		}
	}
	left := make([]string, len(shown))
	for i, key := range shown {
		left[i] = p.tasks[key].ID + p.bar(p.tasks[key])
		column = max(column, visible(left[i]))
	}
	var b strings.Builder
	b.WriteString("\x1b[?25l")
	fmt.Fprintf(&b, "[+] %s %d/%d\n", p.title, done, len(p.order))
	for i, key := range shown {
		b.WriteString(p.line(p.tasks[key], left[i], column, width))
	}
	p.lines = len(shown) + 1
	if more := len(p.order) - len(shown); more > 0 {
		fmt.Fprintf(&b, " ... %d more\n", more)
		p.lines++
	}
	b.WriteString("\x1b[?25h")
	_, _ = io.WriteString(p.out, b.String())
}

func (p *Progress) line(t *task, left string, column, width int) string {
	end := t.ended
	if end.IsZero() {
		end = p.now()
	}
	timer := fmt.Sprintf("%.1fs", end.Sub(t.begun).Seconds())
	right := t.Text
	if t.Details != "" {
		right += " " + t.Details
	}
	room := width - column - len(timer) - 5
	if r := []rune(right); room > 0 && len(r) > room {
		right = string(r[:max(room-3, 0)]) + "..."
	}
	gap := max(width-3-column-1-utf8.RuneCountInString(right)-len(timer), 1)
	return " " + p.spinner(t) + " " + left + strings.Repeat(" ", column-visible(left)) + " " +
		p.paint(colors[t.State], right) + strings.Repeat(" ", gap) + p.paint("34", timer) + "\n"
}

var (
	colors  = map[State]string{Done: "32", Warning: "33;1", Error: "31;1"}
	frames  = []string{"⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"}
	percent = strings.Split("⠀⡀⣀⣄⣤⣦⣶⣷⣿", "")
)

func (p *Progress) spinner(t *task) string {
	switch t.State {
	case Done:
		return p.paint("32", "✔")
	case Warning:
		return p.paint("33;1", "!")
	case Error:
		return p.paint("31;1", "✘")
	default:
		return p.paint("33", frames[p.frame%len(frames)])
	}
}

// bar shows how far an image's layers are.
func (p *Progress) bar(t *task) string {
	if t.State != Working || len(t.children) == 0 {
		return ""
	}
	var b strings.Builder
	var current, total int64
	for _, c := range t.children {
		share := 0
		switch {
		case c.State == Done:
			share = len(percent) - 1
		case c.total > 0:
			share = int(c.current * int64(len(percent)-1) / c.total)
		}
		b.WriteString(percent[min(share, len(percent)-1)])
		current, total = current+c.current, total+c.total
	}
	s := " [" + p.paint("32", b.String()) + "]"
	if total > 0 {
		s += fmt.Sprintf(" %7s / %-7s", units.HumanSize(float64(current)), units.HumanSize(float64(total)))
	}
	return s
}

func (p *Progress) paint(code, s string) string {
	if !p.color || code == "" || s == "" {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

// visible counts the characters that a terminal shows.
func visible(s string) int {
	n, escape := 0, false
	for _, r := range s {
		switch {
		case r == '\x1b':
			escape = true
		case escape:
			escape = r != 'm'
		default:
			n++
		}
	}
	return n
}
