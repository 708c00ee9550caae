package server

import (
	"context"
	"net/http"

	"muelle/api"
)

// Projects are what the endpoints below /muelle/v1/projects need of
// *project.Service.
type Projects interface {
	projectRecords
	projectVerbs
}

type projectRecords interface {
	List(ctx context.Context) ([]api.ProjectSummary, error)
	Get(name string) (*api.ProjectSpec, error)
	Explain(ctx context.Context, r api.ExplainRequest) (*api.Explanation, error)
}

type projectVerbs interface {
	Up(ctx context.Context, spec api.ProjectSpec, o api.ProjectUpOptions, progress func(api.ProjectProgress)) error
	Down(ctx context.Context, name string, o api.ProjectDownOptions, progress func(api.ProjectProgress)) error
	Start(ctx context.Context, name string, o api.ProjectActionOptions, progress func(api.ProjectProgress)) error
	Stop(ctx context.Context, name string, o api.ProjectActionOptions, progress func(api.ProjectProgress)) error
	Restart(ctx context.Context, name string, o api.ProjectActionOptions, progress func(api.ProjectProgress)) error
}

func (s *Server) listProjects(w *reply, r *request) error {
	list, err := s.o.Projects.List(r.Context())
	if err != nil {
		return err
	}
	if list == nil {
		list = []api.ProjectSummary{}
	}
	return writeJSON(w, http.StatusOK, list)
}

func (s *Server) inspectProject(w *reply, r *request) error {
	spec, err := s.o.Projects.Get(r.name)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, spec)
}

func (s *Server) projectUp(w *reply, r *request) error {
	var req api.ProjectUpRequest
	if err := readStrictJSON(w, r.Request, &req); err != nil {
		return err
	}
	if req.Spec.Name != r.name {
		return badRequest("the document is of project %q, the path of %q", req.Spec.Name, r.name)
	}
	if v := req.Spec.Version; v > api.ProjectSpecVersion {
		return badRequest("the project's document has version %d, this daemon reads up to %d: update the daemon", v, api.ProjectSpecVersion)
	}
	return reportProject(w, func(progress func(api.ProjectProgress)) error {
		return s.o.Projects.Up(r.Context(), req.Spec, req.Options, progress)
	})
}

func (s *Server) projectDown(w *reply, r *request) error {
	var o api.ProjectDownOptions
	if err := readStrictJSON(w, r.Request, &o); err != nil {
		return err
	}
	return reportProject(w, func(progress func(api.ProjectProgress)) error {
		return s.o.Projects.Down(r.Context(), r.name, o, progress)
	})
}

func (s *Server) projectStart(w *reply, r *request) error {
	return projectAction(w, r, s.o.Projects.Start)
}

func (s *Server) projectStop(w *reply, r *request) error {
	return projectAction(w, r, s.o.Projects.Stop)
}

func (s *Server) projectRestart(w *reply, r *request) error {
	return projectAction(w, r, s.o.Projects.Restart)
}

func projectAction(w *reply, r *request, do func(context.Context, string, api.ProjectActionOptions, func(api.ProjectProgress)) error) error {
	var o api.ProjectActionOptions
	if err := readStrictJSON(w, r.Request, &o); err != nil {
		return err
	}
	return reportProject(w, func(progress func(api.ProjectProgress)) error {
		return do(r.Context(), r.name, o, progress)
	})
}

// reportProject streams what do reports, a document a line. The last line says
// that all is done, or the error and its status; so the answer itself is always 200.
func reportProject(w *reply, do func(progress func(api.ProjectProgress)) error) error {
	out := newLines(w, "application/x-ndjson")
	w.flush()
	err := do(func(p api.ProjectProgress) { _ = out.write(p) })
	last := api.ProjectProgress{Done: true}
	if err != nil {
		last.Error, last.Code = err.Error(), statusOf(err)
	}
	_ = out.write(last)
	if last.Code == http.StatusInternalServerError {
		return err
	}
	return nil
}
