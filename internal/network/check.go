package network

import (
	"context"
	"path/filepath"
	"strings"

	"muelle/api"
	"muelle/internal/check"
	"muelle/internal/meta"
)

// Leaks tells of interfaces and published ports that no container has, and of records
// that cannot be read.
func (s *Service) Leaks(ctx context.Context) ([]check.Leak, error) {
	s.recovered.Lock()
	done := s.recovered.done
	s.recovered.Unlock()
	if !done {
		return nil, nil
	}
	leaks, err := s.bridge.Leaks(ctx, s.endpointBegins)
	if err != nil {
		return nil, err
	}
	for _, c := range s.clashes() {
		leaks = append(leaks, s.clashLeak(c))
	}
	_, errs := s.records.All()
	for _, err := range errs {
		leaks = append(leaks, s.recordLeak(err))
	}
	return leaks, nil
}

// endpointBegins tells whether there is an endpoint whose id begins so.
func (s *Service) endpointBegins(prefix string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, sb := range s.sandboxes {
		for _, e := range sb.endpoints {
			if strings.HasPrefix(e.id, prefix) {
				return true
			}
		}
	}
	return false
}

// recordLeak: a record that was damaged since it was read is written again.
func (s *Service) recordLeak(cause error) check.Leak {
	l := check.Leak{
		Finding: api.Finding{Kind: "record", Name: s.o.Root, Problem: cause.Error(), Remedy: "a newer version may have written it; else remove the file and make the network again"},
		There: func() bool {
			_, errs := s.records.All()
			for _, err := range errs {
				if err.Error() == cause.Error() {
					return true
				}
			}
			return false
		},
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	for id, n := range s.networks {
		if _, err := meta.At[record](s.o.Root, 1).Load(id); err == nil || err.Error() != cause.Error() {
			continue
		}
		l.Name, l.Remedy = filepath.Join(s.o.Root, id+".json"), ""
		l.Mend = func(context.Context) error {
			s.mu.RLock()
			r, known := n.record, s.networks[id] == n
			s.mu.RUnlock()
			if !known {
				return nil
			}
			return s.records.Save(id, &r, true)
		}
	}
	return l
}
