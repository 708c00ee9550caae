package main

import (
	"cmp"
	"errors"
	"fmt"
	"log"
	"strings"
	"time"
)

// quiet is how long an engine and all others are left alone before its memory is
// measured; idleContainers how many are then started at once.
const quiet, idleContainers = 10 * time.Second, 20

// footprint is the memory of an engine: at rest, and beside idle containers.
type footprint struct {
	rest, beside helpers
	restErr, err error
}

func (t *table) memory(string) error {
	const one = "memory of one more idle container with a published port, of twenty"
	rests := []struct {
		name, budget string
		value        func(usage) float64
	}{
		{"memory of all daemons at rest, PSS", "30 MiB", func(u usage) float64 { return u.pss }},
		{"memory of all daemons at rest, anonymous", "12 MiB", func(u usage) float64 { return u.anonymous }},
	}
	if !t.wantedAny(one, rests[0].name, rests[1].name) {
		return nil
	}
	// One engine after the other: what one does to interfaces and packet filters wakes
	// those that watch them.
	prints := map[string]footprint{}
	for _, e := range t.engines {
		log.Printf("%s: memory", e.name)
		prints[e.name] = t.footprint(e, t.wanted(one))
	}
	for _, r := range rests {
		if err := t.row(r.name, r.budget, "MiB", 1, func(e *engine) (float64, error) {
			p := prints[e.name]
			return r.value(p.rest.sum()), cmp.Or(e.without("daemon"), p.restErr)
		}); err != nil {
			return err
		}
	}
	return t.row(one, "1 MiB", "MiB", 1, func(e *engine) (float64, error) {
		p := prints[e.name]
		if err := errors.Join(p.restErr, p.err); err != nil {
			return 0, err
		}
		e.remark = p.beside.more(p.rest, idleContainers)
		return (p.beside.sum().pss - p.rest.sum().pss) / idleContainers, p.beside.each(e.beside, idleContainers)
	})
}

// footprint measures an engine ten seconds after 20 containers came and went and, where
// that is wanted, ten seconds after as many were started that do nothing.
func (t *table) footprint(e *engine, containers bool) (p footprint) {
	for i := 0; i < 20 && p.restErr == nil; i++ {
		p.restErr = e.cli("run", "--rm", image, "true").do()
	}
	if p.restErr == nil {
		p.restErr = e.cli("ps").do()
	}
	if p.restErr == nil {
		time.Sleep(quiet)
		p.rest, p.restErr = t.helpers(e)
	}
	if p.restErr != nil || !containers {
		return p
	}
	var names []string
	defer func() { e.tidy(names...) }()
	for i := range idleContainers {
		name := fmt.Sprintf("idle%d", i)
		names = append(names, name)
		if p.err = e.cli("run", "-d", "--name", name, "-p", fmt.Sprintf("%d:80", 30000+i), image, "sleep", "100000").do(); p.err != nil {
			return p
		}
	}
	time.Sleep(quiet)
	p.beside, p.err = t.helpers(e)
	return p
}

// each fails unless there is one of every name for each of so many containers: what is
// not seen would count as nothing.
func (h helpers) each(names []string, containers int) error {
	for _, name := range names {
		if n := h[name].processes; n < containers {
			return fmt.Errorf("%d containers, but %d processes of %s", containers, n, name)
		}
	}
	return nil
}

// more says what a container's share is made of.
func (h helpers) more(before helpers, containers int) string {
	var parts []string
	for _, name := range h.names() {
		u, was := h[name], before[name]
		text := fmt.Sprintf("%s %.2f MiB", name, (u.pss-was.pss)/float64(containers))
		if n := u.processes - was.processes; n > 0 {
			text += fmt.Sprintf(" (%d processes)", n)
		}
		parts = append(parts, text)
	}
	return "a container's share: " + strings.Join(parts, ", ")
}
