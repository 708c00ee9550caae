// Package thread runs functions on operating system threads of their own. Namespaces, working directory, file system ids and
// umask belong to a thread on Linux: what such a function changes of them touches nothing else.
package thread

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// Run runs f on a thread that ends with it and returns f's error. It is never the
// first thread of the process, which does not end before the process, and whose
// namespaces are what others take for the process's own.
func Run(f func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			result <- f()
			return // still locked: the thread is thrown away
		}
		// While this goroutine keeps the first thread, the next cannot be given it.
		result <- Run(f)
		runtime.UnlockOSThread()
	}()
	return <-result
}
