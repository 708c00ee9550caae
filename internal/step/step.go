// Package step runs a multi-step operation as a visible list with one rollback
// loop: read the list, know the feature; when a step fails, the ones before it are
// undone in reverse order.
package step

import (
	"context"
	"errors"
	"fmt"
)

// Step is one action. Undo may be nil; it is given a context that is not
// cancelled with the operation's, and must be idempotent.
type Step struct {
	Name string
	Do   func(ctx context.Context) error
	Undo func(ctx context.Context) error
}

// Run does the steps in order. On failure it undoes those that were done, last
// first, and returns the failing step's error; errors of undoing are joined to it.
// The error is not wrapped with the step's name: the steps word their own errors.
func Run(ctx context.Context, steps ...Step) error {
	for i, s := range steps {
		err := ctx.Err()
		if err == nil {
			err = s.Do(ctx)
		}
		if err == nil {
			continue
		}
		return undo(context.WithoutCancel(ctx), steps[:i], err)
	}
	return nil
}

// Together runs steps at the same time as one step: it fails with the first error
// (in list order) after all have ended, and then undoes those that succeeded.
func Together(name string, steps ...Step) Step {
	return Step{
		Name: name,
		Do: func(ctx context.Context) error {
			errs := make([]error, len(steps))
			done := make(chan struct{})
			for i, s := range steps[1:] {
				go func() { errs[i+1] = s.Do(ctx); done <- struct{}{} }()
			}
			errs[0] = steps[0].Do(ctx)
			for range steps[1:] {
				<-done
			}
			var first error
			var succeeded []Step
			for i, err := range errs {
				switch {
				case err == nil:
					succeeded = append(succeeded, steps[i])
				case first == nil:
					first = err
				}
			}
			if first == nil {
				return nil
			}
			return undo(context.WithoutCancel(ctx), succeeded, first)
		},
		Undo: func(ctx context.Context) error { return undo(ctx, steps, nil) },
	}
}

func undo(ctx context.Context, done []Step, cause error) error {
	errs := []error{cause}
	for i := len(done) - 1; i >= 0; i-- {
		if done[i].Undo == nil {
			continue
		}
		if err := done[i].Undo(ctx); err != nil {
			errs = append(errs, fmt.Errorf("undo %s: %w", done[i].Name, err))
		}
	}
	if len(errs) == 1 {
		return cause
	}
	return errors.Join(errs...)
}
