//go:build root

package build_test

import (
	"context"
	"net"
	"net/http"
	"os"
	"strings"

	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
)

// CVE-2024-23653: a frontend's own container must not get the privileges that nobody
// has allowed it, by asking for them when it starts a process.
func testEntitlements(w *world) {
	ctx := context.Background()
	binary, err := os.ReadFile("/bin/busybox")
	must(w.TB, err)
	dial := func(ctx context.Context, path, proto string, header http.Header) (net.Conn, error) {
		return w.client.Hijack(ctx, path, nil, proto, header, nil)
	}
	c, err := bkclient.New(ctx, "passthrough:///muelle",
		bkclient.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return dial(ctx, "/grpc", "h2c", nil) }),
		bkclient.WithSessionDialer(func(ctx context.Context, proto string, meta map[string][]string) (net.Conn, error) {
			return dial(ctx, "/session", proto, meta)
		}))
	must(w.TB, err)
	defer c.Close()
	results := map[pb.SecurityMode]error{}
	_, err = c.Build(ctx, bkclient.SolveOpt{}, "", func(ctx context.Context, g gateway.Client) (*gateway.Result, error) {
		def, err := llb.Scratch().File(llb.Mkfile("/busybox", 0o755, binary)).Marshal(ctx)
		if err != nil {
			return nil, err
		}
		res, err := g.Solve(ctx, gateway.SolveRequest{Definition: def.ToPB()})
		if err != nil {
			return nil, err
		}
		for _, mode := range []pb.SecurityMode{pb.SecurityMode_SANDBOX, pb.SecurityMode_INSECURE} {
			ctr, err := g.NewContainer(ctx, gateway.NewContainerRequest{Mounts: []gateway.Mount{{Dest: "/", MountType: pb.MountType_BIND, Ref: res.Ref}}})
			if err != nil {
				return nil, err
			}
			p, err := ctr.Start(ctx, gateway.StartRequest{Args: []string{"/busybox", "true"}, Cwd: "/", SecurityMode: mode})
			if err == nil {
				err = p.Wait()
			}
			results[mode] = err
			if err := ctr.Release(ctx); err != nil {
				return nil, err
			}
		}
		return gateway.NewResult(), nil
	}, nil)
	// The refusal ends the container, and so the build.
	if err == nil || !strings.Contains(err.Error(), "security.insecure is not allowed") {
		w.Errorf("the build: %v", err)
	}
	if err, ok := results[pb.SecurityMode_SANDBOX]; err != nil || !ok {
		w.Errorf("an ordinary process: %v", err)
	}
	if err := results[pb.SecurityMode_INSECURE]; err == nil || !strings.Contains(err.Error(), "security.insecure is not allowed") {
		w.Errorf("a privileged process: %v", err)
	}
}
