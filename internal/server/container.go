package server

import (
	"context"
	"encoding/json"
	"io"
	"iter"
	"muelle/internal/network"
	"net/http"
	"net/netip"

	containertypes "github.com/moby/moby/api/types/container"
	networktypes "github.com/moby/moby/api/types/network"

	"muelle/api"
	"muelle/internal/container"
	"muelle/internal/filter"
	"muelle/internal/logdriver"
)

// Containers are what the endpoints below /containers and /exec need of
// *container.Service.
type Containers interface {
	containerRecords
	containerLifecycle
	containerStreams
	containerExecs
	containerNetworks
	containerFiles
}

type containerRecords interface {
	Create(ctx context.Context, o container.CreateOptions) (containertypes.CreateResponse, error)
	List(ctx context.Context, o container.ListOptions) ([]containertypes.Summary, error)
	Inspect(ctx context.Context, ref string, size bool) (*containertypes.InspectResponse, error)
	Kernel(ctx context.Context, ref string) (*api.Kernel, error)
	Capture(ctx context.Context, ref string, o network.CaptureOptions, begin func(names map[netip.Addr]string) io.Writer) (api.CaptureSummary, error)
	Rename(ctx context.Context, ref, name string) error
	Update(ctx context.Context, ref string, u containertypes.UpdateConfig) (containertypes.UpdateResponse, error)
	Remove(ctx context.Context, ref string, o container.RemoveOptions) error
	Prune(ctx context.Context, f filter.Args) (containertypes.PruneReport, error)
}

type containerLifecycle interface {
	Start(ctx context.Context, ref string) error
	Stop(ctx context.Context, ref string, o container.StopOptions) error
	Restart(ctx context.Context, ref string, o container.StopOptions) error
	Kill(ctx context.Context, ref, signal string) error
	Pause(ctx context.Context, ref string) error
	Unpause(ctx context.Context, ref string) error
	Wait(ctx context.Context, ref string, c containertypes.WaitCondition) (func(context.Context) (containertypes.WaitResponse, error), error)
}

type containerStreams interface {
	Attach(ctx context.Context, ref string, o container.AttachOptions) error
	Logs(ctx context.Context, ref string, o container.LogOptions) (entries iter.Seq2[logdriver.Entry, error], tty bool, err error)
	Resize(ctx context.Context, ref string, height, width uint) error
	Top(ctx context.Context, ref, psArgs string) (containertypes.TopResponse, error)
	Stats(ctx context.Context, ref string, o container.StatsOptions) (iter.Seq2[*containertypes.StatsResponse, error], error)
}

type containerExecs interface {
	DebugCreate(ctx context.Context, ref string, r api.DebugRequest) (id string, err error)
	ExecCreate(ctx context.Context, ref string, r containertypes.ExecCreateRequest) (id string, err error)
	ExecStart(ctx context.Context, id string, o container.ExecStartOptions) error
	ExecInspect(ctx context.Context, id string) (*containertypes.ExecInspectResponse, error)
	ExecResize(ctx context.Context, id string, height, width uint) error
}

type containerNetworks interface {
	ConnectNetwork(ctx context.Context, ref, network string, s *networktypes.EndpointSettings) error
	DisconnectNetwork(ctx context.Context, ref, network string, force bool) error
	UpdatePorts(ctx context.Context, ref string, add, drop networktypes.PortMap) (networktypes.PortMap, error)
}

func (s *Server) listContainers(w *reply, r *request) error {
	q := r.URL.Query()
	f, err := filtersOf(q)
	if err != nil {
		return err
	}
	limit, err := intOf(q, "limit")
	if err != nil {
		return err
	}
	o := container.ListOptions{All: boolOf(q, "all"), Size: boolOf(q, "size"), Filters: f}
	if limit != nil {
		o.Limit = max(0, *limit)
	}
	list, err := s.o.Containers.List(r.Context(), o)
	if err != nil {
		return err
	}
	if list == nil {
		list = []containertypes.Summary{}
	}
	return writeJSON(w, http.StatusOK, summariesOf(list, r.version))
}

func (s *Server) createContainer(w *reply, r *request) error {
	var body json.RawMessage
	if err := readJSON(w, r.Request, &body); err != nil {
		return err
	}
	req, warnings, err := createRequest(body)
	if err != nil {
		return err
	}
	if err := adaptCreate(req, r.version); err != nil {
		return err
	}
	platform := ""
	if r.version >= 41 {
		if platform, err = platformOf(r.URL.Query(), "platform"); err != nil {
			return err
		}
	}
	answer, err := s.o.Containers.Create(r.Context(), container.CreateOptions{
		Name: r.URL.Query().Get("name"), Platform: platform,
		Config: req.Config, HostConfig: req.HostConfig, Networking: req.NetworkingConfig,
	})
	if err != nil {
		return err
	}
	answer.Warnings = append(append([]string{}, warnings...), answer.Warnings...)
	return writeJSON(w, http.StatusCreated, answer)
}

func (s *Server) inspectContainer(w *reply, r *request) error {
	c, err := s.o.Containers.Inspect(r.Context(), r.name, boolOf(r.URL.Query(), "size"))
	if err != nil {
		return err
	}
	shown, err := containerOf(c, r.version)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, shown)
}

func (s *Server) startContainer(w *reply, r *request) error {
	if q := r.URL.Query(); q.Get("checkpoint") != "" {
		return noCheckpoints(w, r)
	}
	// A body is a host configuration of very old clients: Docker refuses it too.
	if r.ContentLength > 2 || r.ContentLength == -1 {
		if n, err := io.CopyN(io.Discard, r.Body, 3); err == nil || n > 2 {
			return badRequest("starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24")
		}
	}
	if err := s.o.Containers.Start(r.Context(), r.name); err != nil {
		return err
	}
	return noContent(w)
}

// stopOptions reads the query of stop and restart.
func stopOptions(r *request) (container.StopOptions, error) {
	q := r.URL.Query()
	timeout, err := intOf(q, "t")
	o := container.StopOptions{Timeout: timeout}
	if r.version >= 42 {
		o.Signal = q.Get("signal")
	}
	return o, err
}

func (s *Server) stopContainer(w *reply, r *request) error {
	o, err := stopOptions(r)
	if err != nil {
		return err
	}
	if err := s.o.Containers.Stop(r.Context(), r.name, o); err != nil {
		return err
	}
	return noContent(w)
}

func (s *Server) restartContainer(w *reply, r *request) error {
	o, err := stopOptions(r)
	if err != nil {
		return err
	}
	if err := s.o.Containers.Restart(r.Context(), r.name, o); err != nil {
		return err
	}
	return noContent(w)
}

func (s *Server) killContainer(w *reply, r *request) error {
	if err := s.o.Containers.Kill(r.Context(), r.name, r.URL.Query().Get("signal")); err != nil {
		return err
	}
	return noContent(w)
}

func (s *Server) pauseContainer(w *reply, r *request) error {
	if err := s.o.Containers.Pause(r.Context(), r.name); err != nil {
		return err
	}
	return noContent(w)
}

func (s *Server) unpauseContainer(w *reply, r *request) error {
	if err := s.o.Containers.Unpause(r.Context(), r.name); err != nil {
		return err
	}
	return noContent(w)
}

func (s *Server) renameContainer(w *reply, r *request) error {
	if err := s.o.Containers.Rename(r.Context(), r.name, r.URL.Query().Get("name")); err != nil {
		return err
	}
	return noContent(w)
}

func (s *Server) updateContainer(w *reply, r *request) error {
	var u containertypes.UpdateConfig
	if err := readJSON(w, r.Request, &u); err != nil {
		return err
	}
	if r.version < 40 {
		u.PidsLimit = nil
	}
	answer, err := s.o.Containers.Update(r.Context(), r.name, u)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, answer)
}

func (s *Server) containerKernel(w *reply, r *request) error {
	k, err := s.o.Containers.Kernel(r.Context(), r.name)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, k)
}

func (s *Server) updatePorts(w *reply, r *request) error {
	var u api.PortsUpdate
	if err := readJSON(w, r.Request, &u); err != nil {
		return err
	}
	ports, err := s.o.Containers.UpdatePorts(r.Context(), r.name, u.Add, u.Remove)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, api.PortsUpdateResponse{Ports: ports})
}

func (s *Server) removeContainer(w *reply, r *request) error {
	q := r.URL.Query()
	o := container.RemoveOptions{Force: boolOf(q, "force"), Volumes: boolOf(q, "v"), Link: boolOf(q, "link")}
	if err := s.o.Containers.Remove(r.Context(), r.name, o); err != nil {
		return err
	}
	return noContent(w)
}

func (s *Server) pruneContainers(w *reply, r *request) error {
	f, err := filtersOf(r.URL.Query())
	if err != nil {
		return err
	}
	report, err := s.o.Containers.Prune(r.Context(), f)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, report)
}

// waitContainer sends its headers as soon as the wait is in force: a client starts
// the container after them and misses no exit.
func (s *Server) waitContainer(w *reply, r *request) error {
	condition := containertypes.WaitCondition(r.URL.Query().Get("condition"))
	if r.version < 30 {
		condition = "" // the parameter is of 1.30
	}
	switch condition {
	case "":
		condition = containertypes.WaitConditionNotRunning
	case containertypes.WaitConditionNotRunning, containertypes.WaitConditionNextExit, containertypes.WaitConditionRemoved:
	default:
		return badRequest("invalid condition: %q", condition)
	}
	wait, err := s.o.Containers.Wait(r.Context(), r.name, condition)
	if err != nil {
		return err
	}
	if r.version >= 30 {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusOK)
		w.flush()
	}
	result, err := wait(r.Context())
	if r.Context().Err() != nil {
		return nil // nobody is there to tell
	}
	if r.version < 30 {
		if err != nil {
			return err
		}
		return writeJSON(w, http.StatusOK, result)
	}
	if err != nil {
		result = containertypes.WaitResponse{StatusCode: -1, Error: &containertypes.WaitExitError{Message: err.Error()}}
	}
	return writeJSON(statusSent{w}, http.StatusOK, result)
}

// statusSent swallows a second status line.
type statusSent struct{ http.ResponseWriter }

func (statusSent) WriteHeader(int) {}

func (s *Server) topContainer(w *reply, r *request) error {
	args := r.URL.Query().Get("ps_args")
	if args == "" {
		args = "-ef"
	}
	top, err := s.o.Containers.Top(r.Context(), r.name, args)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, top)
}

func (s *Server) containerStats(w *reply, r *request) error {
	q := r.URL.Query()
	o := container.StatsOptions{Stream: boolOr(q, "stream", true), OneShot: r.version >= 41 && boolOf(q, "one-shot")}
	if o.Stream && o.OneShot {
		return badRequest("cannot have stream=true and one-shot=true")
	}
	readings, err := s.o.Containers.Stats(r.Context(), r.name, o)
	if err != nil {
		return err
	}
	out := newLines(w, "application/json")
	for reading, err := range readings {
		if err != nil {
			return err
		}
		if out.write(reading) != nil {
			return nil
		}
	}
	return nil
}

// resizeOf reads height and width.
func resizeOf(r *request) (height, width uint, err error) {
	var cells [2]uint
	for i, key := range []string{"h", "w"} {
		n, err := intOf(r.URL.Query(), key)
		if err != nil {
			return 0, 0, err
		}
		if n == nil || *n < 0 || *n > 65535 {
			return 0, 0, badRequest("invalid resize: %s must be a number from 0 to 65535", key)
		}
		cells[i] = uint(*n)
	}
	return cells[0], cells[1], nil
}

func (s *Server) resizeContainer(w *reply, r *request) error {
	height, width, err := resizeOf(r)
	if err != nil {
		return err
	}
	if err := s.o.Containers.Resize(r.Context(), r.name, height, width); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}
