package server

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/plugin"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/api/types/system"

	"muelle/api"
)

// System knows the engine as a whole.
type System interface {
	Info(ctx context.Context) (*system.Info, error)
	Version(ctx context.Context) (*system.VersionResponse, error)
	DiskUsage(ctx context.Context, objects []system.DiskUsageObject) (*system.DiskUsage, error)
	Account(ctx context.Context) (*api.DiskUsage, error)
	Metrics(ctx context.Context, w io.Writer) error
	Check(ctx context.Context, repair bool) (*api.CheckReport, error)
	Login(ctx context.Context, auth registry.AuthConfig) (*registry.AuthResponse, error)
}

func (s *Server) ping(w *reply, r *request) error {
	h := w.Header()
	h.Set("Cache-Control", "no-cache, no-store, must-revalidate")
	h.Set("Pragma", "no-cache")
	h.Set("Builder-Version", builderVersion(r.UserAgent()))
	h.Set("Swarm", "inactive")
	h.Set("Content-Type", "text/plain; charset=utf-8")
	if r.Method == http.MethodHead {
		h.Set("Content-Length", "0")
		w.WriteHeader(http.StatusOK)
		return nil
	}
	_, err := w.Write([]byte("OK"))
	return err
}

// builderVersion is the builder that a client shall use. Docker's before 23 (Debian
// 12's is 20.10) have a BuildKit session of their own over POST /build instead of
// buildx and /grpc; they build by the classic request, which BuildKit serves too.
func builderVersion(agent string) string {
	rest, _ := strings.CutPrefix(agent, "Docker-Client/")
	major, _, _ := strings.Cut(rest, ".")
	if n, err := strconv.Atoi(major); err == nil && n < 23 {
		return "1"
	}
	return "2"
}

func (s *Server) version(w *reply, r *request) error {
	v, err := s.o.System.Version(r.Context())
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, v)
}

func (s *Server) info(w *reply, r *request) error {
	info, err := s.o.System.Info(r.Context())
	if err != nil {
		return err
	}
	shown, err := infoOf(info, r.version)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, shown)
}

// diskUsage answers with the fields that the client's version knows: 1.52 and
// newer have sums per kind and give the objects with verbose only, older ones have
// the objects always.
func (s *Server) diskUsage(w *reply, r *request) error {
	q := r.URL.Query()
	var objects []system.DiskUsageObject
	for _, t := range q["type"] {
		if r.version < 42 {
			break // the parameter is of 1.42
		}
		switch o := system.DiskUsageObject(t); o {
		case system.ContainerObject, system.ImageObject, system.VolumeObject, system.BuildCacheObject:
			objects = append(objects, o)
		default:
			return badRequest("unknown object type: %s", t)
		}
	}
	du, err := s.o.System.DiskUsage(r.Context(), objects)
	if err != nil {
		return err
	}
	verbose := boolOf(q, "verbose")
	answer := diskUsage{DiskUsage: *du}
	if r.version < 53 && !(r.version == 52 && verbose) {
		answer.legacy(du)
	}
	switch {
	case r.version < 52:
		answer.DiskUsage = system.DiskUsage{}
	case !verbose:
		answer.withoutItems()
	}
	return writeJSON(w, http.StatusOK, answer)
}

// account answers with all that the engine has on disk, whether Docker has a word for
// it or not.
func (s *Server) account(w *reply, r *request) error {
	d, err := s.o.System.Account(r.Context())
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, d)
}

// check looks for leaks and damage, and with repair=1 mends them.
func (s *Server) check(w *reply, r *request) error {
	report, err := s.o.System.Check(r.Context(), boolOf(r.URL.Query(), "repair"))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, report)
}

// events streams what happens, one document a line, flushed one by one.
func (s *Server) events(w *reply, r *request) error {
	q := r.URL.Query()
	f, err := filtersOf(q)
	if err != nil {
		return err
	}
	if err := f.Validate("config", "container", "daemon", "event", "image", "label", "network", "node", "plugin", "scope", "secret", "service", "type", "volume"); err != nil {
		return err
	}
	since, err := timeOf(q, "since")
	if err != nil {
		return err
	}
	until, err := timeOf(q, "until")
	if err != nil {
		return err
	}
	// Unlike elsewhere 0 is a time here: everything that is remembered.
	if q.Get("since") == "0" {
		since = time.Unix(0, 0)
	}
	if !since.IsZero() && !until.IsZero() && since.After(until) {
		return badRequest("invalid event range: `since` (%s) is later than `until` (%s)", q.Get("since"), q.Get("until"))
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	happened := s.o.Bus.Subscribe(ctx, since, until, f)
	out := newLines(w, eventsType(r))
	w.flush()
	for m := range happened {
		if r.version < 46 && m.Type == events.ImageEventType && m.Action == events.ActionCreate {
			continue
		}
		var line any = m
		if r.version < 52 || isComposeV1(r) {
			line = legacyEventOf(m)
		}
		if out.write(line) != nil {
			break
		}
	}
	return nil
}

// eventsType is the content type that the client asked for, where it is one of
// those with a document a line.
func eventsType(r *request) string {
	if r.version >= 52 {
		for _, t := range []string{"application/x-ndjson", "application/jsonl"} {
			if r.Header.Get("Accept") == t {
				return t
			}
		}
	}
	return "application/json"
}

func (s *Server) auth(w *reply, r *request) error {
	var auth registry.AuthConfig
	if err := readJSON(w, r.Request, &auth); err != nil {
		return err
	}
	answer, err := s.o.System.Login(r.Context(), auth)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, answer)
}

// listPlugins: there is no plugin, and clients list them before they complete words.
func (s *Server) listPlugins(w *reply, _ *request) error {
	return writeJSON(w, http.StatusOK, []plugin.Plugin{})
}

func (s *Server) muelleVersion(w *reply, _ *request) error {
	return writeJSON(w, http.StatusOK, api.VersionResponse{Version: s.o.Version, APIVersion: api.DefaultVersion, MuelleAPIVersion: 1})
}

// shutdown ends the daemon after the answer.
func (s *Server) shutdown(w *reply, r *request) error {
	var stop bool
	switch v := r.URL.Query().Get("containers"); v {
	case "", "keep":
	case "stop":
		stop = true
	default:
		return badRequest("invalid value for containers: %q is neither stop nor keep", v)
	}
	if s.o.Shutdown == nil {
		return errdefs.ErrNotImplemented.WithMessage("this daemon cannot be shut down by a request")
	}
	if err := noContent(w); err != nil {
		return err
	}
	w.flush()
	s.o.Shutdown(stop)
	return nil
}

// legacyEvent is an event with the fields of clients before 1.52.
type legacyEvent struct {
	Status string `json:"status,omitempty"`
	ID     string `json:"id,omitempty"`
	From   string `json:"from,omitempty"`
	events.Message
}

func legacyEventOf(m events.Message) legacyEvent {
	e := legacyEvent{Message: m}
	switch m.Type {
	case events.ContainerEventType:
		e.Status, e.ID, e.From = string(m.Action), m.Actor.ID, m.Actor.Attributes["image"]
	case events.ImageEventType:
		e.Status, e.ID = string(m.Action), m.Actor.ID
	}
	return e
}
