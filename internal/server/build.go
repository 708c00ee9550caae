package server

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/docker/go-units"
	buildtypes "github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/registry"

	"muelle/internal/build"
)

// Builds are what the endpoints of builds need of *build.Service.
type Builds interface {
	classicBuilds
	buildkit
	buildCache
}

type classicBuilds interface {
	Build(ctx context.Context, r build.Request, body io.Reader, out func(jsonstream.Message)) (imageID string, err error)
	Cancel(buildID string) error
}

type buildkit interface {
	ServeGRPC(ctx context.Context, conn net.Conn) error
	ServeSession(ctx context.Context, conn net.Conn, header http.Header) error
}

type buildCache interface {
	Prune(ctx context.Context, o build.PruneOptions) (*buildtypes.CachePruneReport, error)
}

// build runs a classic build: the body is the context as a tar stream.
func (s *Server) build(w *reply, r *request) error {
	req, err := buildRequest(r)
	if err != nil {
		return err
	}
	out := newProgress(w)
	_, err = s.o.Build.Build(r.Context(), req, r.Body, out.send)
	return out.end(err)
}

func buildRequest(r *request) (build.Request, error) {
	q := r.URL.Query()
	req := build.Request{
		Tags: q["t"], Dockerfile: q.Get("dockerfile"), Remote: q.Get("remote"), Target: q.Get("target"),
		NoCache: boolOf(q, "nocache"), Pull: boolOf(q, "pull"), Quiet: boolOf(q, "q"),
		NetworkMode: q.Get("networkmode"), CPUSetCPUs: q.Get("cpusetcpus"), CPUSetMems: q.Get("cpusetmems"),
		CgroupParent: q.Get("cgroupparent"), SecurityOpt: q["securityopt"], Squash: boolOf(q, "squash"),
		BuildID: q.Get("buildid"),
	}
	for key, n := range map[string]*int64{
		"shmsize": &req.ShmSize, "memory": &req.Memory, "memswap": &req.MemorySwap,
		"cpushares": &req.CPUShares, "cpuperiod": &req.CPUPeriod, "cpuquota": &req.CPUQuota,
	} {
		var err error
		if *n, err = int64Of(q, key); err != nil {
			return req, err
		}
	}
	var ulimits []*units.Ulimit
	for key, v := range map[string]any{
		"buildargs": &req.BuildArgs, "labels": &req.Labels, "cachefrom": &req.CacheFrom, "ulimits": &ulimits,
	} {
		if err := jsonOf(q, key, v); err != nil {
			return req, err
		}
	}
	for _, u := range ulimits {
		if u == nil {
			return req, badRequest("invalid value for ulimits: null")
		}
		req.Ulimits = append(req.Ulimits, build.Ulimit{Name: u.Name, Soft: u.Soft, Hard: u.Hard})
	}
	for _, hosts := range q["extrahosts"] {
		req.ExtraHosts = append(req.ExtraHosts, strings.FieldsFunc(hosts, func(c rune) bool { return c == ',' })...)
	}
	var err error
	if req.Platform, err = platformOf(q, "platform"); err != nil {
		return req, err
	}
	req.Auth = registryConfigOf(r.Header)
	return req, nil
}

// registryConfigOf reads X-Registry-Config, credentials by host; one that cannot
// be read is taken for none, as Docker does.
func registryConfigOf(h http.Header) map[string]registry.AuthConfig {
	text := h.Get("X-Registry-Config")
	if text == "" {
		return nil
	}
	var auth map[string]registry.AuthConfig
	d := json.NewDecoder(base64.NewDecoder(base64.URLEncoding, strings.NewReader(text)))
	if err := d.Decode(&auth); err != nil {
		return nil
	}
	return auth
}

func (s *Server) cancelBuild(w *reply, r *request) error {
	id := r.URL.Query().Get("id")
	if id == "" {
		return badRequest("build ID not provided")
	}
	if err := s.o.Build.Cancel(id); err != nil {
		return err
	}
	return noContent(w)
}

func (s *Server) pruneBuilds(w *reply, r *request) error {
	q := r.URL.Query()
	f, err := filtersOf(q)
	if err != nil {
		return err
	}
	o := build.PruneOptions{All: boolOf(q, "all"), Filters: f}
	reserved := "reserved-space"
	if !q.Has(reserved) {
		reserved = "keep-storage" // its name before 1.48
	}
	for key, n := range map[string]*int64{reserved: &o.ReservedSpace, "max-used-space": &o.MaxUsedSpace, "min-free-space": &o.MinFreeSpace} {
		if *n, err = int64Of(q, key); err != nil {
			return err
		}
	}
	report, err := s.o.Build.Prune(r.Context(), o)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, report)
}

// buildGRPC hands the connection to BuildKit's control API, spoken over HTTP/2.
func (s *Server) buildGRPC(w *reply, r *request) error {
	return s.handOver(w, r, func(ctx context.Context, conn net.Conn) error {
		return s.o.Build.ServeGRPC(ctx, conn)
	})
}

// buildSession hands the connection to BuildKit as a client's session: on it the
// daemon asks for files, secrets and credentials.
func (s *Server) buildSession(w *reply, r *request) error {
	return s.handOver(w, r, func(ctx context.Context, conn net.Conn) error {
		return s.o.Build.ServeSession(ctx, conn, r.Header)
	})
}

func (s *Server) handOver(w *reply, r *request, serve func(context.Context, net.Conn) error) error {
	if proto := r.Header.Get("Upgrade"); proto != "h2c" {
		return badRequest("protocol %q is not supported: ask for an upgrade to h2c", proto)
	}
	st, err := s.takeOver(w, r)
	if err != nil {
		return err
	}
	defer st.close()
	if _, err := fmt.Fprint(st.Conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"); err != nil {
		return nil // the client has gone
	}
	if err := serve(r.Context(), st); err != nil {
		s.log.Debug("build connection ended", "req", r.URL.Path, "err", err)
	}
	return nil
}
