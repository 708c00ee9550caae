package model

import (
	"fmt"
	"slices"

	"github.com/compose-spec/compose-go/v2/types"
)

// settlePlatforms gives a service that is built and names no platform the default
// one, before it is hashed, as Docker Compose does.
func settlePlatforms(p *types.Project) error {
	def := p.Environment["DOCKER_DEFAULT_PLATFORM"]
	for name, s := range p.Services {
		if s.Build == nil {
			continue
		}
		if s.Platform == "" {
			s.Platform = def
		}
		if s.Platform != "" && len(s.Build.Platforms) > 0 && !slices.Contains(s.Build.Platforms, s.Platform) {
			return fmt.Errorf("service %q build configuration does not support platform: %s", name, s.Platform)
		}
		p.Services[name] = s
	}
	return nil
}
