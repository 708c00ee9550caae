// Package buildclient is the client side of image builds: it reads the context and
// the Dockerfile, talks to the daemon's BuildKit over POST /grpc and /session, and
// draws the progress. It is linked only by muelle-build and muelle-compose: BuildKit's
// client packages are heavy, and no BuildKit type leaves this package.
package buildclient

import (
	"context"
	"io"
	"net"
)

// Options is one build. The zero value of everything but Dial and ContextDir is
// what `muelle build .` does.
type Options struct {
	// Dial opens a connection to the daemon's API socket.
	Dial func(ctx context.Context) (net.Conn, error)
	// Version is the API version in the path of requests, such as "1.51"; empty:
	// none.
	Version string

	// ContextDir is a folder, a git or http URL, or "-" for ContextReader.
	ContextDir string
	// ContextReader is standard input where ContextDir is "-": a Dockerfile or a
	// tar of a whole context; where Dockerfile is "-" it is the Dockerfile.
	ContextReader io.Reader
	// Dockerfile is a path (relative to the working directory as the command line
	// gives it; empty means ContextDir/Dockerfile), or "-" for ContextReader.
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
	Annotations   []string
	Platforms     []string
	Network       string   // default, none, host
	ExtraHosts    []string // "name:address" or "name=address"
	Secrets       []Secret
	SSH           []SSH
	Contexts      map[string]string // named contexts: folder, docker-image://…, oci-layout://…, URL, target:…
	CacheFrom     []string          // "type=…,key=value" or a reference
	CacheTo       []string
	Outputs       []string // "type=local,dest=…", a folder, or "-" for tar on Stdout; empty: the image store
	Ulimits       []string // "nofile=1024:2048"
	ShmSize       int64
	CgroupParent  string
	Allow         []string // network.host, security.insecure
	Attests       []string // "type=provenance,…", "type=sbom"

	// Stdout receives only what an output "-" asks for.
	Stdout io.Writer
	// Progress receives the display; nil means silent. It may be shared by several
	// builds at the same time.
	Progress *Progress
	// Prefix is put before the names of steps: a Compose service.
	Prefix string
}

// Secret is one RUN --mount=type=secret source: a file, or a variable of the
// environment.
type Secret struct{ ID, Source, Env string }

// SSH is one agent or set of keys for RUN --mount=type=ssh.
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
