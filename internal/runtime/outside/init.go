package outside

import (
	"sync"

	"muelle/internal/runtime/native"
)

// initProgram is the shim as a file of its own, which other runtimes can bind into a
// container: memory cannot be bound, and the file muelle-shim is another program first.
type initProgram struct {
	path string

	mu      sync.Mutex
	written bool
}

// write writes the file once in this daemon's life, since a former one may have been of
// another version. Containers that run keep the old file.
func (p *initProgram) write(own *native.Runtime) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.written {
		return nil
	}
	err := own.WriteShim(p.path)
	p.written = err == nil
	return err
}
