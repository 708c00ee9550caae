package event_test

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/events"

	"muelle/internal/event"
	"muelle/internal/filter"
)

func publish(b *event.Bus, ids ...string) {
	for _, id := range ids {
		b.Publish(events.ContainerEventType, events.ActionStart, id, map[string]string{"name": "n" + id})
	}
}

func TestSubscriptionHoldsFromItsReturn(t *testing.T) {
	b := event.NewBus(4)
	publish(b, "before")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	seq := b.Subscribe(ctx, time.Time{}, time.Time{}, nil)
	publish(b, "a", "b")
	var got []string
	for m := range seq {
		if got = append(got, m.Actor.ID); len(got) == 2 {
			break
		}
	}
	if diff := cmp.Diff([]string{"a", "b"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestPastComesFromABoundedRing(t *testing.T) {
	b := event.NewBus(3)
	start := time.Now()
	for i := range 5 {
		publish(b, strconv.Itoa(i))
	}
	var got []string
	for m := range b.Subscribe(t.Context(), start, time.Now(), nil) {
		got = append(got, m.Actor.ID)
	}
	if diff := cmp.Diff([]string{"2", "3", "4"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestPartlyFilledRing(t *testing.T) {
	b := event.NewBus(10)
	start := time.Now()
	publish(b, "a", "b")
	n := 0
	for range b.Subscribe(t.Context(), start, time.Now(), nil) {
		n++
	}
	if n != 2 {
		t.Errorf("%d events, want 2", n)
	}
}

func TestCancelEndsTheLoop(t *testing.T) {
	b := event.NewBus(1)
	ctx, cancel := context.WithCancel(t.Context())
	seq := b.Subscribe(ctx, time.Time{}, time.Time{}, nil)
	done := make(chan int)
	go func() {
		n := 0
		for range seq {
			n++
			cancel()
		}
		done <- n
	}()
	publish(b, "a")
	if n := <-done; n != 1 {
		t.Errorf("%d events, want 1", n)
	}
	publish(b, "after") // must not reach anybody, nor block
}

func TestMatch(t *testing.T) {
	container := events.Message{
		Type: events.ContainerEventType, Action: "health_status: healthy", Scope: "local",
		Actor: events.Actor{ID: "abcdef", Attributes: map[string]string{"name": "web", "image": "nginx:1", "tier": "front"}},
	}
	image := events.Message{
		Type: events.ImageEventType, Action: "tag", Scope: "local",
		Actor: events.Actor{ID: "sha256:1", Attributes: map[string]string{"name": "localhost:5000/x:2"}},
	}
	network := events.Message{
		Type: events.NetworkEventType, Action: "connect", Scope: "local",
		Actor: events.Actor{ID: "123456", Attributes: map[string]string{"name": "frontend", "container": "abcdef"}},
	}
	whole := events.Message{
		Type: events.ContainerEventType, Action: "start", Scope: "local",
		Actor: events.Actor{ID: "abcdef", Attributes: map[string]string{"name": "web", "image": "docker.io/library/nginx:1@sha256:" + strings.Repeat("0", 64)}},
	}
	for _, tt := range []struct {
		name string
		in   filter.Args
		m    events.Message
		want bool
	}{
		{"none", nil, container, true},
		{"type", filter.Args{"type": {"image"}}, container, false},
		{"event's head", filter.Args{"event": {"health_status"}}, container, true},
		{"event whole", filter.Args{"event": {"health_status: healthy"}}, container, true},
		{"event other", filter.Args{"event": {"start", "die"}}, container, false},
		{"container by name", filter.Args{"container": {"web"}}, container, true},
		{"container by id prefix", filter.Args{"container": {"abc"}}, container, true},
		{"container by the beginning of its name", filter.Args{"container": {"we"}}, container, true},
		{"container by the end of its name", filter.Args{"container": {"eb"}}, container, false},
		{"container by more than its name", filter.Args{"container": {"web1"}}, container, false},
		{"one of two containers", filter.Args{"container": {"db", "web"}}, container, true},
		{"container, no regular expression", filter.Args{"container": {"w.b"}}, container, false},
		{"container against image event", filter.Args{"container": {"web"}}, image, false},
		{"a network by another kind's filter", filter.Args{"container": {"front"}}, network, true},
		{"the container that joins a network", filter.Args{"container": {"abcdef"}}, network, false},
		{"two kinds", filter.Args{"container": {"front"}, "network": {"back"}}, network, false},
		{"kind and type", filter.Args{"container": {"front"}, "type": {"container"}}, network, false},
		{"event's beginning", filter.Args{"event": {"health"}}, container, false},
		{"events' beginnings with a long one", filter.Args{"event": {"exec_create", "health"}}, container, true},
		{"image of container with tag", filter.Args{"image": {"nginx:1"}}, container, true},
		{"image of container with another tag", filter.Args{"image": {"nginx:2"}}, container, false},
		{"image by the beginning of its name", filter.Args{"image": {"ngin"}}, container, false},
		{"image by id", filter.Args{"image": {"sha256:1"}}, image, true},
		{"image by its whole name", filter.Args{"image": {"docker.io/library/nginx"}}, container, false},
		{"image of the hub, told whole", filter.Args{"image": {"nginx"}}, whole, true},
		{"image of container without tag", filter.Args{"image": {"nginx"}}, container, true},
		{"image with port in name", filter.Args{"image": {"localhost:5000/x"}}, image, true},
		{"label", filter.Args{"label": {"tier=front"}}, container, true},
		{"label other", filter.Args{"label": {"tier=back"}}, container, false},
	} {
		if got := event.Match(tt.in, tt.m); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestASlowListenerIsGivenUp(t *testing.T) {
	b := event.NewBus(4)
	publish := func(n int) {
		for range n {
			b.Publish(events.ContainerEventType, events.ActionStart, "x", nil)
			b.Publish(events.ImageEventType, events.ActionPull, "y", nil)
		}
	}
	of := filter.Args{"type": {"container"}}
	slow := b.Subscribe(t.Context(), time.Time{}, time.Time{}, of)
	publish(8192)
	quick := b.Subscribe(t.Context(), time.Time{}, time.Time{}, of)
	publish(1)
	n := 0
	for range slow {
		n++
	}
	if n != 8192 {
		t.Errorf("the slow listener got %d events before it was given up", n)
	}
	for range quick {
		break // not given up
	}
}
