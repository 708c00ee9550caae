// Package metric counts and times what the engine does and writes such numbers in
// the text format of Prometheus, version 0.0.4. It exists because client_golang and
// what it links weigh more than the whole of the daemon's own heap.
package metric

import (
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// ContentType of what a Writer writes.
const ContentType = "text/plain; version=0.0.4; charset=utf-8"

// bounds are the upper ends of a Timer's buckets in seconds: Prometheus's default,
// which Docker uses too.
var bounds = [...]float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}

// Timer is a histogram of durations. The zero value is empty; it is safe for
// concurrent use.
type Timer struct {
	buckets [len(bounds) + 1]atomic.Uint64
	nanos   atomic.Int64
}

// Observe counts one duration.
func (t *Timer) Observe(d time.Duration) {
	i, _ := slices.BinarySearch(bounds[:], d.Seconds())
	t.buckets[i].Add(1)
	t.nanos.Add(int64(d))
}

// Since observes the time from begun until now: for defer.
func (t *Timer) Since(begun time.Time) { t.Observe(time.Since(begun)) }

// Succeeded observes the time from begun until now unless there is an error: for defer.
func (t *Timer) Succeeded(begun time.Time, err *error) {
	if *err == nil {
		t.Since(begun)
	}
}

// Label is a name and a value.
type Label struct{ Name, Value string }

// Writer writes families of metrics. The first error stays and is told by Err.
type Writer struct {
	out io.Writer
	b   []byte
	err error
	// family is the name that samples have.
	family string
}

// NewWriter writes to out.
func NewWriter(out io.Writer) *Writer { return &Writer{out: out} }

// Err is the first error of writing.
func (w *Writer) Err() error {
	w.flush()
	return w.err
}

func (w *Writer) flush() {
	if w.err == nil && len(w.b) > 0 {
		_, w.err = w.out.Write(w.b)
	}
	w.b = w.b[:0]
}

// Family begins a family; its samples must follow before the next one. kind is
// counter, gauge or histogram.
func (w *Writer) Family(name, kind, help string) {
	w.family = name
	w.b = append(w.b, "# HELP "...)
	w.b = append(w.b, name...)
	w.b = append(w.b, ' ')
	w.b = append(w.b, strings.NewReplacer(`\`, `\\`, "\n", `\n`).Replace(help)...)
	w.b = append(w.b, "\n# TYPE "...)
	w.b = append(w.b, name...)
	w.b = append(w.b, ' ')
	w.b = append(w.b, kind...)
	w.b = append(w.b, '\n')
	if len(w.b) > 16<<10 {
		w.flush()
	}
}

// Sample writes one value of the family.
func (w *Writer) Sample(value float64, labels ...Label) { w.sample("", value, labels) }

// Gauge writes a family of one value.
func (w *Writer) Gauge(name, help string, value float64) {
	w.Family(name, "gauge", help)
	w.Sample(value)
}

// Counter writes a family of one value.
func (w *Writer) Counter(name, help string, value float64) {
	w.Family(name, "counter", help)
	w.Sample(value)
}

// Timer writes a histogram of the family.
func (w *Writer) Timer(t *Timer, labels ...Label) {
	var count uint64
	for i := range t.buckets {
		count += t.buckets[i].Load()
		le := math.Inf(1)
		if i < len(bounds) {
			le = bounds[i]
		}
		w.sample("_bucket", float64(count), append(slices.Clone(labels), Label{"le", number(le)}))
	}
	w.sample("_sum", float64(t.nanos.Load())/1e9, labels)
	w.sample("_count", float64(count), labels)
}

func (w *Writer) sample(suffix string, value float64, labels []Label) {
	w.b = append(append(w.b, w.family...), suffix...)
	for i, l := range labels {
		w.b = append(w.b, "{,"[min(i, 1)])
		w.b = append(append(w.b, l.Name...), '=', '"')
		for _, r := range l.Value {
			switch r {
			case '\\', '"':
				w.b = append(w.b, '\\', byte(r))
			case '\n':
				w.b = append(w.b, '\\', 'n')
			default:
				w.b = append(w.b, string(r)...)
			}
		}
		w.b = append(w.b, '"')
	}
	if len(labels) > 0 {
		w.b = append(w.b, '}')
	}
	w.b = append(append(append(w.b, ' '), number(value)...), '\n')
	if len(w.b) > 16<<10 {
		w.flush()
	}
}

func number(v float64) string {
	if math.IsInf(v, 1) {
		return "+Inf"
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}
