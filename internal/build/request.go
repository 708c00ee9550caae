package build

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
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

// check refuses what cannot be done, in Docker's words where it has some.
func (r *Request) check() error {
	switch {
	case r.Remote != "" && r.Remote != "client-session":
		return errdefs.ErrNotImplemented.WithMessage("building from a remote context (" + r.Remote + ") is not supported: fetch it and build the folder")
	case r.Remote == "client-session":
		return errdefs.ErrInvalidArgument.WithMessage("a BuildKit session over POST /build is not supported: build with DOCKER_BUILDKIT=0, or with buildx")
	case r.Squash:
		return errdefs.ErrNotImplemented.WithMessage("squash is not supported")
	case len(r.SecurityOpt) > 0:
		return errdefs.ErrNotImplemented.WithMessage("security options are not supported by this builder")
	}
	for _, t := range r.Tags {
		if _, err := normalNames(t); err != nil {
			return errdefs.ErrInvalidArgument.WithMessage(err.Error())
		}
	}
	switch r.NetworkMode {
	case "", "default", "bridge", "host", "none":
	default:
		return errdefs.ErrNotImplemented.WithMessage(fmt.Sprintf("network mode %q not supported by buildkit", r.NetworkMode))
	}
	return nil
}

// attributes are the Dockerfile frontend's.
func (r *Request) attributes() map[string]string {
	attrs := map[string]string{}
	set := func(key, value string) {
		if value != "" {
			attrs[key] = value
		}
	}
	number := func(key string, n int64) {
		if n != 0 {
			attrs[key] = fmt.Sprint(n)
		}
	}
	set("filename", r.Dockerfile)
	set("target", r.Target)
	set("platform", r.Platform)
	set("add-hosts", hostList(r.ExtraHosts))
	set("cache-from", strings.Join(r.CacheFrom, ","))
	set("cgroup-parent", r.CgroupParent)
	set("cpusetcpus", r.CPUSetCPUs)
	set("cpusetmems", r.CPUSetMems)
	set("ulimit", ulimitList(r.Ulimits))
	number("shm-size", r.ShmSize)
	number("memory", r.Memory)
	number("memswap", r.MemorySwap)
	number("cpushares", r.CPUShares)
	number("cpuperiod", r.CPUPeriod)
	number("cpuquota", r.CPUQuota)
	if r.NoCache {
		attrs["no-cache"] = ""
	}
	if r.Pull {
		attrs[attrResolveMode] = "pull"
	}
	if r.NetworkMode == "host" || r.NetworkMode == "none" {
		attrs["force-network-mode"] = r.NetworkMode
	}
	for k, v := range r.BuildArgs {
		if v != nil {
			attrs["build-arg:"+k] = *v
		}
	}
	for k, v := range r.Labels {
		attrs["label:"+k] = v
	}
	return attrs
}

// hostList makes "name:address" BuildKit's "name=address,…"; an IPv6 address has
// colons of its own.
func hostList(hosts []string) string {
	var out []string
	for _, h := range hosts {
		if name, address, ok := strings.Cut(h, ":"); ok && !strings.Contains(name, "=") {
			h = name + "=" + address
		}
		out = append(out, h)
	}
	return strings.Join(out, ",")
}

func ulimitList(limits []Ulimit) string {
	var out []string
	for _, u := range limits {
		out = append(out, fmt.Sprintf("%s=%d:%d", u.Name, u.Soft, u.Hard))
	}
	return strings.Join(out, ",")
}

// sharedKey lets two builds that look alike reuse what was sent of the context.
func (r *Request) sharedKey() string {
	sum := sha256.Sum256([]byte("classic\x00" + r.Dockerfile + "\x00" + strings.Join(r.Tags, "\x00")))
	return hex.EncodeToString(sum[:])
}
