package step_test

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"muelle/internal/step"
)

var errBad = errors.New("bad")

type journal struct{ did []string }

func (j *journal) step(name string, err error) step.Step {
	return step.Step{
		Name: name,
		Do:   func(context.Context) error { j.did = append(j.did, name); return err },
		Undo: func(ctx context.Context) error { j.did = append(j.did, "-"+name); return ctx.Err() },
	}
}

func TestFailureUndoesInReverse(t *testing.T) {
	var j journal
	err := step.Run(t.Context(), j.step("a", nil), j.step("b", nil), j.step("c", errBad), j.step("d", nil))
	if err != errBad {
		t.Errorf("error %v, want the step's own", err)
	}
	if diff := cmp.Diff([]string{"a", "b", "c", "-b", "-a"}, j.did); diff != "" {
		t.Error(diff)
	}
}

func TestCancelledContextUndoesWithALiveOne(t *testing.T) {
	var j journal
	ctx, cancel := context.WithCancel(t.Context())
	stop := step.Step{Name: "stop", Do: func(context.Context) error { cancel(); return nil }}
	err := step.Run(ctx, j.step("a", nil), stop, j.step("b", nil))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if diff := cmp.Diff([]string{"a", "-a"}, j.did); diff != "" {
		t.Error(diff)
	}
}

func TestUndoErrorsAreJoined(t *testing.T) {
	errUndo := errors.New("stuck")
	first := step.Step{Name: "a", Do: func(context.Context) error { return nil }, Undo: func(context.Context) error { return errUndo }}
	err := step.Run(t.Context(), first, step.Step{Name: "b", Do: func(context.Context) error { return errBad }})
	if !errors.Is(err, errBad) || !errors.Is(err, errUndo) {
		t.Errorf("error %v, want both", err)
	}
}

func TestTogether(t *testing.T) {
	undone := make(chan string, 3)
	part := func(name string, err error) step.Step {
		return step.Step{Name: name, Do: func(context.Context) error { return err }, Undo: func(context.Context) error { undone <- name; return nil }}
	}
	if err := step.Run(t.Context(), step.Together("all", part("a", nil), part("b", errBad), part("c", nil))); err != errBad {
		t.Errorf("error %v", err)
	}
	if got := []string{<-undone, <-undone}; got[0] != "c" || got[1] != "a" {
		t.Errorf("undone %v, want those that succeeded, last first", got)
	}
	// A later step's failure undoes all of them.
	step.Run(t.Context(), step.Together("all", part("x", nil), part("y", nil)), part("z", errBad))
	if got := []string{<-undone, <-undone}; got[0] != "y" || got[1] != "x" {
		t.Errorf("undone %v", got)
	}
	if len(undone) != 0 {
		t.Error("undone twice")
	}
}
