package build

import (
	"github.com/moby/moby/api/types/registry"

	"muelle/internal/filter"
)

// Request is a classic build: the query of POST /build.
type Request struct {
	// Tags are what the image is called, "name" or "name:tag".
	Tags       []string
	Dockerfile string // path inside the context; empty means Dockerfile
	// Remote is a context that the daemon would have to fetch; unsupported.
	Remote    string
	BuildArgs map[string]*string // nil: declared without a value
	Labels    map[string]string
	Target    string
	NoCache   bool
	Pull      bool
	// Quiet sends nothing but the image's id.
	Quiet bool
	// NetworkMode is default, bridge, host or none.
	NetworkMode  string
	Platform     string
	ExtraHosts   []string
	CacheFrom    []string
	ShmSize      int64
	Memory       int64
	MemorySwap   int64
	CPUShares    int64
	CPUPeriod    int64
	CPUQuota     int64
	CPUSetCPUs   string
	CPUSetMems   string
	CgroupParent string
	Ulimits      []Ulimit
	SecurityOpt  []string
	Squash       bool
	// BuildID names the build for Cancel.
	BuildID string
	// Auth holds credentials by registry host, of X-Registry-Config.
	Auth map[string]registry.AuthConfig
}

// Ulimit is one resource limit of RUN steps.
type Ulimit struct {
	Name       string
	Soft, Hard int64
}

// PruneOptions selects cache records, as POST /build/prune does.
type PruneOptions struct {
	All           bool
	ReservedSpace int64
	MaxUsedSpace  int64
	MinFreeSpace  int64
	Filters       filter.Args
}
