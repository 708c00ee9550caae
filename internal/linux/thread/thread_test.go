package thread_test

import (
	"errors"
	"runtime"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"muelle/internal/linux/thread"
)

// The first thread of the process is never used, also while all others are busy.
func TestRunLeavesTheFirstThread(t *testing.T) {
	var wg sync.WaitGroup
	for range 4 * runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			err := thread.Run(func() error {
				if unix.Gettid() == unix.Getpid() {
					return errors.New("the first thread")
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestRunGivesTheError(t *testing.T) {
	want := errors.New("x")
	if err := thread.Run(func() error { return want }); err != want {
		t.Errorf("got %v", err)
	}
}

// What belongs to the thread ends with it: the working directory after unshare.
func TestRunChangesNothingElse(t *testing.T) {
	before, err := unix.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	err = thread.Run(func() error {
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			return err
		}
		return unix.Chdir("/")
	})
	if err != nil {
		t.Fatal(err)
	}
	if after, err := unix.Getwd(); err != nil || after != before {
		t.Errorf("the working directory is %s, %v; before %s", after, err, before)
	}
}
