package userns

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"sync"
)

// DefaultSize is how many ids a container gets that asks for none: what 16-bit ids
// need.
const DefaultSize = 65536

// Pool gives each container a range of ids that no other has. Methods are safe for
// concurrent use.
type Pool struct {
	free []Sub // of both users and groups
	err  error // why there is none

	mu   sync.Mutex
	used map[string]Sub
}

// poolOwners are those whose subordinate ids are for containers: Podman's name for
// the same purpose, and ours.
var poolOwners = []string{"muelle", "containers"}

// OpenPool makes the pool. spec is "FIRST:COUNT", or a user whose ranges of
// /etc/subuid that are in /etc/subgid too are taken, or empty for the users "muelle"
// and "containers". Where there are none, containers that ask for ids read why.
func OpenPool(root, spec string) (*Pool, error) {
	p := &Pool{used: map[string]Sub{}}
	if first, count, ok := strings.Cut(spec, ":"); ok {
		start, err := strconv.ParseUint(first, 10, 32)
		size, err2 := strconv.ParseUint(count, 10, 32)
		if errors.Join(err, err2) != nil || start == 0 || size == 0 || start+size > 1<<32-1 {
			return nil, fmt.Errorf("invalid userns-pool %q: FIRST:COUNT, or the name of a user in /etc/subuid", spec)
		}
		p.free = []Sub{{uint32(start), uint32(size)}}
		return p, nil
	}
	owners := poolOwners
	if spec != "" {
		owners = []string{spec}
	}
	for _, owner := range owners {
		uids, err := subs(root, "etc/subuid", names{owner})
		if err == nil {
			var gids []Sub
			if gids, err = subs(root, "etc/subgid", names{owner}); err == nil {
				p.free = both(uids, gids)
			}
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		if len(p.free) > 0 {
			return p, nil
		}
	}
	if spec != "" {
		return nil, fmt.Errorf("userns-pool: user %s has no subordinate ids in both /etc/subuid and /etc/subgid", spec)
	}
	p.err = errors.New("no ids to take from: add them with: echo muelle:2147483648:1073741824 | tee -a /etc/subuid /etc/subgid, or set userns-pool in daemon.json, and restart the daemon")
	return p, nil
}

// both gives what two lists of ranges have in common.
func both(a, b []Sub) (out []Sub) {
	for _, x := range a {
		for _, y := range b {
			from := max(x.Start, y.Start)
			to := min(uint64(x.Start)+uint64(x.Size), uint64(y.Start)+uint64(y.Size))
			if uint64(from) < to {
				out = append(out, Sub{from, uint32(to - uint64(from))})
			}
		}
	}
	return out
}

// excepted begins the names of what no container holds.
const excepted = "\x00"

// Take reserves size ids for a container until Release.
func (p *Pool) Take(container string, size uint32) (*Map, error) {
	if p == nil || p.err != nil {
		if p == nil {
			return nil, errors.New("no ids to take from")
		}
		return nil, p.err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, pool := range p.free {
		if s, ok := p.fit(pool, size); ok {
			p.used[container] = s
			return s.asMap(), nil
		}
	}
	held := 0
	for who := range p.used {
		if !strings.HasPrefix(who, excepted) {
			held++
		}
	}
	if held < len(p.used) {
		return nil, fmt.Errorf("the pool has no %d ids in a row left: %d containers hold some, and userns-remap takes its own from the same", size, held)
	}
	return nil, fmt.Errorf("the pool has no %d ids in a row left: %d containers hold some", size, held)
}

// fit finds the first gap of a pool. mu is held.
func (p *Pool) fit(pool Sub, size uint32) (Sub, bool) {
	at := pool.Start
	end := uint64(pool.Start) + uint64(pool.Size)
	for {
		if uint64(at)+uint64(size) > end {
			return Sub{}, false
		}
		next := at
		for _, u := range p.used {
			if overlap(at, size, u.Start, u.Size) && uint64(u.Start)+uint64(u.Size) > uint64(next) {
				next = u.Start + u.Size
			}
		}
		if next == at {
			return Sub{at, size}, true
		}
		at = next
	}
}

func (s Sub) asMap() *Map {
	r := []Range{{Host: s.Start, Size: s.Size}}
	return &Map{UIDs: r, GIDs: r}
}

// Keep notes what a container was given before the daemon was restarted.
func (p *Pool) Keep(container string, m *Map) {
	if p == nil || m == nil || len(m.UIDs) != 1 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.used[container] = Sub{m.UIDs[0].Host, m.UIDs[0].Size}
}

// Except keeps the ids of a map, users' and groups', out of the pool for good.
func (p *Pool) Except(m *Map) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, r := range append(append([]Range(nil), m.UIDs...), m.GIDs...) {
		p.used[excepted+strconv.Itoa(i)] = Sub{r.Host, r.Size}
	}
}

// Release gives a container's ids back.
func (p *Pool) Release(container string) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.used, container)
}

// Mode is how a container asks for its user namespace.
type Mode struct {
	// Host: the host's ids, whatever the daemon's default. Auto: a range of its own.
	Host, Auto bool
	Size       uint32 // of Auto
}

// ParseMode reads HostConfig.UsernsMode: "" (the daemon's default), "host", "auto",
// "auto:size=N".
func ParseMode(text string) (Mode, error) {
	word, options, has := strings.Cut(text, ":")
	switch {
	case text == "":
		return Mode{}, nil
	case text == "host":
		return Mode{Host: true}, nil
	case word != "auto":
		return Mode{}, fmt.Errorf("invalid user namespace mode: %s (host, auto or auto:size=N)", text)
	}
	m := Mode{Auto: true, Size: DefaultSize}
	if !has {
		return m, nil
	}
	value, ok := strings.CutPrefix(options, "size=")
	n, err := strconv.ParseUint(value, 10, 32)
	if !ok || err != nil || n == 0 || n > 1<<31 {
		return Mode{}, fmt.Errorf("invalid user namespace mode: %s (auto:size=N, N ids from 1 to %d)", text, uint32(1<<31))
	}
	m.Size = uint32(n)
	return m, nil
}
