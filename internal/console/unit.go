package console

import (
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/docker/go-units"
)

// HumanSize words bytes as Docker does ("1.09MB"), with three digits.
func HumanSize(n int64) string { return units.HumanSizeWithPrecision(float64(n), 3) }

// HumanSize4 does the same with four digits, as Docker's summaries do.
func HumanSize4(n int64) string { return units.HumanSize(float64(n)) }

// HumanAge words how long ago t was, "3 minutes ago".
func HumanAge(t time.Time) string { return units.HumanDuration(time.Since(t)) + " ago" }

// HumanDuration words a duration as Docker does ("About an hour").
func HumanDuration(d time.Duration) string { return units.HumanDuration(d) }

// ParseSize reads "64m" with Docker's binary units.
func ParseSize(s string) (int64, error) { return units.RAMInBytes(s) }

// ShortID is the form of an id that tables show: twelve digits without "sha256:".
func ShortID(id string) string {
	if _, hex, ok := strings.Cut(id, ":"); ok {
		id = hex
	}
	if len(id) > 12 {
		id = id[:12]
	}
	return id
}

// Ellipsis shortens s to width columns.
func Ellipsis(s string, width int) string {
	if utf8.RuneCountInString(s) <= width {
		return s
	}
	r := []rune(s)
	return string(r[:width-1]) + "…"
}

// LabelText writes labels as k=v,k=v in order.
func LabelText(m map[string]string) string {
	all := make([]string, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		all = append(all, k+"="+m[k])
	}
	return strings.Join(all, ",")
}
