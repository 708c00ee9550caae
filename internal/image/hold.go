package image

import (
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
)

// hold is a container that was made from an image.
type hold struct {
	image         digest.Digest
	containerID   string
	containerName string
	running       bool
}

// Hold tells that a container uses the image with this ID, so that removing it can
// say so; a second call for the same container replaces the first.
func (s *Service) Hold(id digest.Digest, containerID, containerName string, running bool) {
	s.holdMu.Lock()
	defer s.holdMu.Unlock()
	s.holds[containerID] = hold{image: id, containerID: containerID, containerName: containerName, running: running}
}

// Unhold ends a container's Hold.
func (s *Service) Unhold(containerID string) {
	s.holdMu.Lock()
	defer s.holdMu.Unlock()
	delete(s.holds, containerID)
}

// holders lists the containers of an image, running ones first.
func (s *Service) holders(id digest.Digest) []hold {
	s.holdMu.Lock()
	defer s.holdMu.Unlock()
	var found []hold
	for _, h := range s.holds {
		if h.image == id {
			found = append(found, h)
		}
	}
	slices.SortFunc(found, func(a, b hold) int {
		if a.running != b.running {
			if a.running {
				return -1
			}
			return 1
		}
		return strings.Compare(a.containerID, b.containerID)
	})
	return found
}
