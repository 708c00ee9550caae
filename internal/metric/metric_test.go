package metric_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"muelle/internal/metric"
)

func TestWriter(t *testing.T) {
	var b strings.Builder
	w := metric.NewWriter(&b)
	w.Counter("a_total", "Two\nlines\\", 3)
	w.Family("g", "gauge", "G")
	w.Sample(1.5e9, metric.Label{Name: "x", Value: "a\"\\\nñ\xff"}, metric.Label{Name: "y", Value: ""})
	var timer metric.Timer
	timer.Observe(5 * time.Millisecond)
	timer.Observe(6 * time.Millisecond)
	timer.Observe(time.Minute)
	w.Family("t_seconds", "histogram", "T")
	w.Timer(&timer, metric.Label{Name: "action", Value: "start"})
	if err := w.Err(); err != nil {
		t.Fatal(err)
	}
	want := `# HELP a_total Two\nlines\\
# TYPE a_total counter
a_total 3
# HELP g G
# TYPE g gauge
g{x="a\"\\\nñ` + "\ufffd" + `",y=""} 1.5e+09
# HELP t_seconds T
# TYPE t_seconds histogram
t_seconds_bucket{action="start",le="0.005"} 1
t_seconds_bucket{action="start",le="0.01"} 2
t_seconds_bucket{action="start",le="0.025"} 2
t_seconds_bucket{action="start",le="0.05"} 2
t_seconds_bucket{action="start",le="0.1"} 2
t_seconds_bucket{action="start",le="0.25"} 2
t_seconds_bucket{action="start",le="0.5"} 2
t_seconds_bucket{action="start",le="1"} 2
t_seconds_bucket{action="start",le="2.5"} 2
t_seconds_bucket{action="start",le="5"} 2
t_seconds_bucket{action="start",le="10"} 2
t_seconds_bucket{action="start",le="+Inf"} 3
t_seconds_sum{action="start"} 60.011
t_seconds_count{action="start"} 3
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("gone") }

func TestErrorIsTold(t *testing.T) {
	w := metric.NewWriter(broken{})
	w.Gauge("a", "A", 1)
	if err := w.Err(); err == nil || err.Error() != "gone" {
		t.Errorf("got %v", err)
	}
}
