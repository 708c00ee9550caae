package project

import (
	"errors"
	"fmt"
	"sync"

	"github.com/containerd/errdefs"

	"muelle/api"
)

// reporter gives progress lines to one listener, one after another.
type reporter struct {
	mu   sync.Mutex
	emit func(api.ProjectProgress)
}

func newReporter(emit func(api.ProjectProgress)) *reporter { return &reporter{emit: emit} }

func (r *reporter) send(p api.ProjectProgress) {
	if r.emit == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.emit(p)
}

func (r *reporter) working(id, status string) { r.send(api.ProjectProgress{ID: id, Status: status}) }

func (r *reporter) done(id, status string) {
	r.send(api.ProjectProgress{ID: id, Status: status, Finished: true})
}

func (r *reporter) failed(id string, err error) {
	r.send(api.ProjectProgress{ID: id, Status: "Error", Error: err.Error(), Finished: true})
}

func (r *reporter) warn(text string) {
	r.send(api.ProjectProgress{ID: api.ProgressWarning, Status: text, Finished: true})
}

// around reports an action: the word while it runs, the word once it is done, or
// its error.
func (r *reporter) around(id, doing, did string, do func() error) error {
	r.working(id, doing)
	if err := do(); err != nil {
		r.failed(id, err)
		return err
	}
	r.done(id, did)
	return nil
}

// ownError is a failure of the project's own rules, worded as Docker Compose does:
// a failed precondition unless it says otherwise.
type ownError struct {
	text string
	is   error // its class
}

func own(class error, format string, args ...any) error {
	if class == nil {
		class = errdefs.ErrFailedPrecondition
	}
	return &ownError{text: fmt.Sprintf(format, args...), is: class}
}

func (e *ownError) Error() string { return e.text }
func (e *ownError) Unwrap() error { return e.is }

// finish tells the listener when err is the project's own, and returns it.
func (r *reporter) finish(err error) error {
	var e *ownError
	if errors.As(err, &e) {
		r.send(api.ProjectProgress{ID: api.ProgressFailure, Error: err.Error(), Finished: true})
	}
	return err
}
