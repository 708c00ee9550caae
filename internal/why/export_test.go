package why

import (
	"context"

	"muelle/api"
	"muelle/internal/container"
)

// FromLog is what the rules say that read a log of a container.
func FromLog(ctx context.Context, e *container.Evidence, logs ...string) []api.WhyFinding {
	f := &facts{ctx: ctx, e: e, logs: logs}
	defer f.close()
	if n := len(e.Endings); n > 0 {
		f.last = &e.Endings[n-1]
	}
	return append(f.commandNotRun(), f.fromLog()...)
}
