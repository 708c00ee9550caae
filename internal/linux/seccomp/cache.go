package seccomp

import (
	"crypto/sha256"
	"encoding/binary"
	"sync"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Cache keeps assembled profiles: nearly every container has the same one, and
// assembling it takes a millisecond.
type Cache struct {
	mu    sync.Mutex
	known map[[sha256.Size]byte]*Filter
}

// maxCached bounds what strange profiles can make the daemon keep.
const maxCached = 64

// Assemble is the function of the same name, remembered.
func (c *Cache) Assemble(p *specs.LinuxSeccomp) (*Filter, error) {
	key := fingerprint(p)
	c.mu.Lock()
	f := c.known[key]
	c.mu.Unlock()
	if f != nil {
		return f, nil
	}
	f, err := Assemble(p)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known == nil || len(c.known) >= maxCached {
		c.known = map[[sha256.Size]byte]*Filter{}
	}
	c.known[key] = f
	return f, nil
}

// fingerprint covers everything that Assemble reads.
func fingerprint(p *specs.LinuxSeccomp) [sha256.Size]byte {
	b := make([]byte, 0, 16<<10)
	text := func(s string) {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	number := func(v *uint) {
		if v == nil {
			b = append(b, 0)
			return
		}
		b = binary.AppendUvarint(append(b, 1), uint64(*v))
	}
	count := func(n int) { b = binary.AppendUvarint(b, uint64(n)) }
	text(string(p.DefaultAction))
	number(p.DefaultErrnoRet)
	count(len(p.Architectures))
	for _, a := range p.Architectures {
		text(string(a))
	}
	count(len(p.Flags))
	for _, f := range p.Flags {
		text(string(f))
	}
	count(len(p.Syscalls))
	for _, s := range p.Syscalls {
		text(string(s.Action))
		number(s.ErrnoRet)
		count(len(s.Names))
		for _, n := range s.Names {
			text(n)
		}
		count(len(s.Args))
		for _, a := range s.Args {
			text(string(a.Op))
			b = binary.AppendUvarint(b, uint64(a.Index))
			b = binary.AppendUvarint(b, a.Value)
			b = binary.AppendUvarint(b, a.ValueTwo)
		}
	}
	return sha256.Sum256(b)
}
