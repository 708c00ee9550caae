// Package check is how a noun tells of what it owns and nothing needs: a leak is
// named, looked at again until it is certain, and mended only when that is asked for.
package check

import (
	"context"
	"fmt"
	"time"

	"github.com/moby/sys/mountinfo"

	"muelle/api"
)

// Leak is something that seems to belong to nobody.
type Leak struct {
	api.Finding
	// There tells whether it is still there; nil: it is.
	There func() bool
	// Owned tells whether somebody has it after all, or is making or removing it; nil:
	// nobody.
	Owned func() bool
	// Passing: it mends itself, as Remedy says, and nobody has to do anything.
	Passing bool
	// Mend removes or repairs it; nil: it cannot be mended here.
	Mend func(ctx context.Context) error
}

// rounds and pause: what is on its way in or out is known to its noun. What a noun
// learns a moment late must stay a leak for longer than that.
const (
	rounds = 4
	pause  = 250 * time.Millisecond
)

// Certain gives those that are leaks each time they are looked at, some times over.
// Between two looks the owners are asked before and after, so that nothing that
// comes or goes meanwhile is among them.
func Certain(ctx context.Context, leaks []Leak) ([]Leak, error) {
	for range rounds {
		var still []Leak
		for _, l := range leaks {
			if !l.owned() && l.there() && !l.owned() {
				still = append(still, l)
			}
		}
		if leaks = still; len(leaks) == 0 {
			return nil, nil
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return leaks, nil
}

func (l *Leak) there() bool { return l.There == nil || l.There() }
func (l *Leak) owned() bool { return l.Owned != nil && l.Owned() }

// Findings gives the leaks as findings; with repair they are mended first. Those that
// mend themselves are notes.
func Findings(ctx context.Context, leaks []Leak, repair bool) (out, notes []api.Finding) {
	out = make([]api.Finding, 0, len(leaks))
	for _, l := range leaks {
		f := l.Finding
		if l.Passing {
			notes = append(notes, f)
			continue
		}
		f.Mendable = l.Mend != nil
		if repair && f.Mendable && !l.owned() {
			if err := l.Mend(ctx); err != nil {
				f.Error = err.Error()
			} else {
				f.Mended = true
			}
		}
		out = append(out, f)
	}
	return out, notes
}

// MountsBelow lists the mount points below a folder, the deepest last; of several on
// one point each.
func MountsBelow(dir string) ([]string, error) {
	found, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	if err != nil {
		return nil, fmt.Errorf("list mounts below %s: %w", dir, err)
	}
	var points []string
	for _, m := range found {
		if m.Mountpoint != dir {
			points = append(points, m.Mountpoint)
		}
	}
	return points, nil
}

// IsMounted tells whether something is mounted on a path.
func IsMounted(path string) bool {
	on, err := mountinfo.Mounted(path)
	return err == nil && on
}
