// Package buildclient is the client side of image builds: it reads the context and
// the Dockerfile, talks to the daemon's BuildKit over POST /grpc and /session, and
// draws the progress. It is linked only by muelle-build and muelle-compose: BuildKit's
// client packages are heavy, and no BuildKit type leaves this package.
package buildclient

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"

	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/moby/api/types/registry"
	"google.golang.org/grpc"

	"muelle/client"
)

// Options is one build. Client and ContextDir must be given; the zero value of
// everything else is what `muelle build .` does.
type Options struct {
	// Client talks to the daemon.
	Client *client.Client

	// ContextDir is a folder, a URL of a tar archive, or "-" for ContextReader.
	ContextDir string
	// ContextReader is standard input: where ContextDir is "-" a Dockerfile or the
	// tar of a whole context, where Dockerfile is "-" the Dockerfile.
	ContextReader io.Reader
	// Dockerfile is a path, looked for from the working directory and then from
	// ContextDir (empty means ContextDir/Dockerfile), or "-" for ContextReader.
	Dockerfile string
	// DockerfileInline is the text itself, as Compose's dockerfile_inline.
	DockerfileInline string

	Tags          []string
	Args          map[string]string
	Target        string
	NoCache       bool
	NoCacheFilter []string // stages not taken from the cache
	Pull          bool
	Labels        map[string]string
	Annotations   []string // "key=value", "manifest:key=value" …
	Platforms     []string
	Network       string   // default, none, host
	ExtraHosts    []string // "name:address" or "name=address"; address may be host-gateway
	Secrets       []Secret
	SSH           []SSH
	Contexts      map[string]string // named contexts: a folder, docker-image://…, a URL
	CacheFrom     []string          // a reference or "type=…,key=value"
	CacheTo       []string
	Outputs       []string // a folder, "-" for tar on Stdout, "type=…,dest=…"; empty: the daemon's images
	Ulimits       []string // "nofile=1024:2048"
	ShmSize       int64
	Memory        int64
	CgroupParent  string
	Allow         []string // network.host, security.insecure
	Attests       []string // "type=provenance,mode=max", "type=sbom"

	// Credentials answers for a registry's host, as in Docker's configuration
	// ("https://index.docker.io/v1/" for Docker Hub); nil: none are known.
	Credentials func(host string) (*registry.AuthConfig, error)
	// Stdout receives what an output "-" asks for, and nothing else.
	Stdout io.Writer
	// Progress draws; nil means silence. Several builds may share it.
	Progress *Progress
	// Prefix is put into the names of steps, "[web 2/5] RUN make": a Compose service.
	Prefix string
}

// Secret is the source of one RUN --mount=type=secret: a file, or a variable of the
// environment; with neither, a variable or else a file called as the ID.
type Secret struct{ ID, Source, Env string }

// SSH is one agent's socket or set of keys for RUN --mount=type=ssh; without paths
// it is the agent of SSH_AUTH_SOCK.
type SSH struct {
	ID    string
	Paths []string
}

// Result is what a build gave.
type Result struct {
	// ImageID is the image's id, "sha256:…"; empty where only files were exported.
	ImageID string
	// Metadata is what --metadata-file holds.
	Metadata map[string]any
}

// Build builds and returns when the image is in the daemon's store, or the output
// is written. A failure of the build itself is a *Failure.
func Build(ctx context.Context, o Options) (Result, error) {
	c, err := connect(ctx, o.Client)
	if err != nil {
		return Result{}, err
	}
	defer c.Close()
	opt, cleanup, err := solveOptions(ctx, c.Client, o)
	defer cleanup()
	if err != nil {
		return Result{}, err
	}
	status := o.Progress.follow(o.Prefix)
	resp, err := c.Solve(ctx, nil, opt, status.ch)
	status.wait()
	if err != nil {
		return Result{}, c.failure(ctx, err)
	}
	return result(opt, resp.ExporterResponse), nil
}

// connection is a BuildKit client over the daemon's API. It remembers why a dial
// failed: gRPC would bury that in its own words.
type connection struct {
	*bkclient.Client
	mu      sync.Mutex
	dialErr error
}

// connect makes a connection, which talks to nobody yet.
func connect(ctx context.Context, api *client.Client) (*connection, error) {
	c := &connection{}
	dial := func(ctx context.Context, path, proto string, header http.Header) (net.Conn, error) {
		conn, err := api.Hijack(ctx, path, nil, proto, header, nil)
		if err != nil {
			c.mu.Lock()
			c.dialErr = err
			c.mu.Unlock()
			return nil, err
		}
		return conn, nil
	}
	var err error
	c.Client, err = bkclient.New(ctx, "passthrough:///muelle",
		bkclient.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return dial(ctx, "/grpc", "h2c", nil)
		}),
		bkclient.WithSessionDialer(func(ctx context.Context, proto string, meta map[string][]string) (net.Conn, error) {
			return dial(ctx, "/session", proto, http.Header(meta))
		}),
		bkclient.WithGRPCDialOption(grpc.WithUserAgent("Muelle-Build")),
	)
	if err != nil {
		return nil, fmt.Errorf("connect to the builder: %w", err)
	}
	return c, nil
}
