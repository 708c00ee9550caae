package buildclient

import (
	"context"
	"fmt"

	bkclient "github.com/moby/buildkit/client"
)

// Plan is what a build would ask for, without asking.
type Plan struct {
	Attrs   map[string]string
	Mounts  []string
	Exports []string // type and attributes
	Allow   []string
}

// PlanOf translates options.
func PlanOf(o Options) (Plan, error) {
	opt, cleanup, err := solveOptions(context.Background(), nil, o)
	defer cleanup()
	p := Plan{Attrs: opt.FrontendAttrs, Allow: opt.AllowedEntitlements}
	for name := range opt.LocalMounts {
		p.Mounts = append(p.Mounts, name)
	}
	for _, e := range opt.Exports {
		p.Exports = append(p.Exports, fmt.Sprint(e.Type, " ", e.Attrs, e.OutputDir))
	}
	return p, err
}

// Prefixed renames a step.
func Prefixed(prefix, name string) string {
	st := &bkclient.SolveStatus{Vertexes: []*bkclient.Vertex{{Name: name}}}
	addPrefix(st, prefix)
	return st.Vertexes[0].Name
}
