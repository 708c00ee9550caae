package build

import (
	"context"

	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/solver/pb"
	"google.golang.org/grpc"
)

// attrResolveMode is the frontend's attribute for where FROM looks first.
const attrResolveMode = "image-resolve-mode"

// preferLocal makes a build take the images that are here, without asking the
// network, unless the client wants them pulled. BuildKit's own default asks the
// registry first and falls back, which costs a delay, or minutes offline.
func preferLocal(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if solve, ok := req.(*controlapi.SolveRequest); ok && solve.Frontend != "" {
		if solve.FrontendAttrs == nil {
			solve.FrontendAttrs = map[string]string{}
		}
		switch solve.FrontendAttrs[attrResolveMode] {
		case "", pb.AttrImageResolveModeDefault:
			solve.FrontendAttrs[attrResolveMode] = pb.AttrImageResolveModePreferLocal
		}
	}
	return next(ctx, req)
}
