package image

import (
	"context"
	"sync"
)

// keyLocker is one lock for each key, so that the same blob is fetched and the same
// chain unpacked once, by however many pulls. It implements unpack.KeyedLocker.
type keyLocker struct {
	mu   sync.Mutex
	held map[string]*heldKey
}

type heldKey struct {
	token chan struct{}
	users int
}

func newKeyLocker() *keyLocker { return &keyLocker{held: map[string]*heldKey{}} }

// Lock waits for key until ctx ends.
func (l *keyLocker) Lock(ctx context.Context, key string) error {
	l.mu.Lock()
	k := l.held[key]
	if k == nil {
		k = &heldKey{token: make(chan struct{}, 1)}
		l.held[key] = k
	}
	k.users++
	l.mu.Unlock()
	select {
	case k.token <- struct{}{}:
		return nil
	case <-ctx.Done():
		l.leave(key, k)
		return ctx.Err()
	}
}

// Unlock gives key to the next that waits.
func (l *keyLocker) Unlock(key string) {
	l.mu.Lock()
	k := l.held[key]
	l.mu.Unlock()
	<-k.token
	l.leave(key, k)
}

func (l *keyLocker) leave(key string, k *heldKey) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if k.users--; k.users == 0 {
		delete(l.held, key)
	}
}
