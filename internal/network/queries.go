package network

import "muelle/api"

// Queries gives the last lookups of a container, oldest first; of one that has ended,
// those of its last run.
func (s *Service) Queries(containerID string) []api.DNSQuery {
	list, _, _ := s.resolver.Queries(containerID, 0)
	return list
}

// QueriesSince gives the lookups after the first n, as far as they are kept, and the
// number to go on from. The channel is closed when there are more; nil: the container
// does not run with a resolver of ours, there will be none.
func (s *Service) QueriesSince(containerID string, n uint64) (list []api.DNSQuery, next uint64, changed <-chan struct{}) {
	return s.resolver.Queries(containerID, n)
}
