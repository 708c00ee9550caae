package cli

import (
	"strconv"
	"time"

	"github.com/docker/go-units"

	"muelle/internal/console"
)

// Titles of columns that several tables share.
const (
	titleCreated = "CREATED"
	titleSize    = "SIZE"
	titleLabels  = "LABELS"
	titleName    = "NAME"
	titleDriver  = "DRIVER"
	titleScope   = "SCOPE"
	titleID      = "CONTAINER ID"
)

func ago(unix int64) string { return console.HumanAge(time.Unix(unix, 0)) }

func size3(n int64) string { return console.HumanSize(n) }

func size4(n int64) string { return units.HumanSize(float64(n)) }

func shorten(id string, trunc bool) string {
	if trunc {
		return console.ShortID(id)
	}
	return id
}

func percentOf(part, whole int64) string {
	if whole > 0 {
		return size4(part) + " (" + strconv.FormatInt(part*100/whole, 10) + "%)"
	}
	return size4(part)
}

// rowsOf makes the variadic argument of a table of a slice.
func rowsOf[T any](all []T, row func(T) any) []any {
	out := make([]any, len(all))
	for i, v := range all {
		out[i] = row(v)
	}
	return out
}
