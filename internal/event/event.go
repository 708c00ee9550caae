// Package event carries what happens to the engine's objects to whoever listens:
// the events endpoint, health gates, projects. A bounded ring keeps recent events
// for listeners that ask for the past.
package event

import (
	"context"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"

	"muelle/internal/filter"
)

// Bus distributes events in the order of Publish. The zero value is not usable.
type Bus struct {
	mu        sync.Mutex
	ring      []events.Message // oldest at next once full
	next      int
	listeners map[*listener]struct{}
	published uint64
	now       func() time.Time
}

// queueLimit is how many events wait for a listener: more than ever come in a burst,
// and some megabytes at most for a client that does not read.
const queueLimit = 8192

// listener has a queue: a slow reader must not stop the engine. One that lets it
// overflow is given up: its subscription ends, rather than missing an event unseen.
type listener struct {
	filter filter.Args
	queue  []events.Message
	lost   bool // the queue overflowed
	wake   chan struct{}
}

// NewBus keeps the last size events for listeners that ask for the past.
func NewBus(size int) *Bus {
	return &Bus{ring: make([]events.Message, 0, size), listeners: map[*listener]struct{}{}, now: time.Now}
}

// Publish records an event and gives it to every listener. It never blocks.
func (b *Bus) Publish(typ events.Type, action events.Action, id string, attributes map[string]string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.published++
	now := b.now()
	m := events.Message{
		Type: typ, Action: action, Scope: "local",
		Actor: events.Actor{ID: id, Attributes: maps.Clone(attributes)},
		Time:  now.Unix(), TimeNano: now.UnixNano(),
	}
	switch {
	case len(b.ring) < cap(b.ring):
		b.ring = append(b.ring, m)
	case cap(b.ring) > 0:
		b.ring[b.next] = m
		b.next = (b.next + 1) % cap(b.ring)
	}
	for l := range b.listeners {
		switch {
		case !Match(l.filter, m):
			continue
		case len(l.queue) >= queueLimit:
			l.lost = true
			delete(b.listeners, l)
		default:
			l.queue = append(l.queue, m)
		}
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
}

// Count tells how many events were published so far and how many listen.
func (b *Bus) Count() (published uint64, listeners int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.published, len(b.listeners)
}

// Subscribe yields remembered events from since on (none for the zero time), then
// live ones, until ctx ends or until has passed (never for the zero time). The
// subscription is in force when Subscribe returns, also before the first pull; it
// ends with ctx, with the loop over it, or when the loop falls thousands of events
// behind.
func (b *Bus) Subscribe(ctx context.Context, since, until time.Time, f filter.Args) iter.Seq[events.Message] {
	l := &listener{filter: f, wake: make(chan struct{}, 1)}
	b.mu.Lock()
	if !since.IsZero() {
		for i := range b.ring {
			m := b.ring[(b.next+i)%len(b.ring)]
			if m.TimeNano >= since.UnixNano() && Match(f, m) {
				l.queue = append(l.queue, m)
			}
		}
	}
	b.listeners[l] = struct{}{}
	b.mu.Unlock()
	remove := func() {
		b.mu.Lock()
		delete(b.listeners, l)
		b.mu.Unlock()
	}
	stop := context.AfterFunc(ctx, remove)
	return func(yield func(events.Message) bool) {
		defer func() { stop(); remove() }()
		var deadline <-chan time.Time
		if !until.IsZero() {
			timer := time.NewTimer(time.Until(until))
			defer timer.Stop()
			deadline = timer.C
		}
		for {
			queue, lost := b.take(l)
			for _, m := range queue {
				if !until.IsZero() && m.TimeNano > until.UnixNano() {
					return
				}
				if !yield(m) {
					return
				}
			}
			if lost {
				return
			}
			select {
			case <-l.wake:
			case <-deadline:
				deadline = nil
				if b.drained(l) {
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}
}

func (b *Bus) take(l *listener) (queue []events.Message, lost bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	queue, l.queue = l.queue, nil
	return queue, l.lost
}

func (b *Bus) drained(l *listener) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(l.queue) == 0
}

// Match tells whether an event passes Docker's filters: type, scope and label; event,
// see matchAction; image, see matchImage; and the kinds of objects, of which the id or
// the name begins with what is wanted. An object's kind is the filter's business alone,
// as in Docker: container=web passes what happens to a network web too.
func Match(f filter.Args, m events.Message) bool {
	return f.ExactMatch("type", string(m.Type)) &&
		matchAction(f, string(m.Action)) &&
		f.ExactMatch("scope", m.Scope) &&
		f.MatchLabels("label", m.Actor.Attributes) &&
		matchObjects(f, m) &&
		matchImage(f, m)
}

// named are the kinds of objects that are filtered by id and name.
var named = []events.Type{
	events.ContainerEventType, events.NetworkEventType, events.VolumeEventType, events.DaemonEventType,
	events.PluginEventType, events.NodeEventType, events.ServiceEventType, events.SecretEventType, events.ConfigEventType,
}

func matchObjects(f filter.Args, m events.Message) bool {
	for _, kind := range named {
		if !begins(f, string(kind), m.Actor.ID) && !begins(f, string(kind), m.Actor.Attributes["name"]) {
			return false
		}
	}
	return true
}

// begins tells whether s begins with one of the values, or there are none.
func begins(f filter.Args, field, s string) bool {
	return !f.Has(field) || slices.ContainsFunc(f.Get(field), func(v string) bool { return strings.HasPrefix(s, v) })
}

// matchAction compares whole actions, unless one of those is wanted that go on with a
// colon, as in "exec_create: ls" and "health_status: healthy": then beginnings.
func matchAction(f filter.Args, action string) bool {
	for _, long := range []events.Action{events.ActionHealthStatus, events.ActionExecCreate, events.ActionExecStart} {
		if slices.Contains(f.Get("event"), string(long)) {
			return begins(f, "event", action)
		}
	}
	return f.ExactMatch("event", action)
}

// matchImage compares the id and the image's name, that of a container's image among
// them, each also without its tag or digest.
func matchImage(f filter.Args, m events.Message) bool {
	if !f.Has("image") {
		return true
	}
	name := m.Actor.Attributes["image"]
	if m.Type == events.ImageEventType {
		name = m.Actor.Attributes["name"]
	}
	return slices.ContainsFunc([]string{m.Actor.ID, name, untagged(m.Actor.ID), untagged(name)}, func(s string) bool {
		return f.ExactMatch("image", s)
	})
}

func untagged(image string) string {
	ref, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return image
	}
	return reference.FamiliarName(ref)
}
