package server

import (
	"context"
	"net/http"
	"strings"

	"github.com/distribution/reference"
	imagetypes "github.com/moby/moby/api/types/image"

	"muelle/internal/filter"
	"muelle/internal/image"
)

// Images are what the endpoints below /images need of *image.Service.
type Images interface {
	imageRecords
	imageTransfer
}

type imageRecords interface {
	List(ctx context.Context, o image.ListOptions) ([]imagetypes.Summary, error)
	Inspect(ctx context.Context, ref string) (*imagetypes.InspectResponse, error)
	History(ctx context.Context, ref string) ([]imagetypes.HistoryResponseItem, error)
	Tag(ctx context.Context, ref, target string) error
	Remove(ctx context.Context, ref string, o image.RemoveOptions) ([]imagetypes.DeleteResponse, error)
	Prune(ctx context.Context, f filter.Args) (imagetypes.PruneReport, error)
}

func (s *Server) listImages(w *reply, r *request) error {
	q := r.URL.Query()
	f, err := filtersOf(q)
	if err != nil {
		return err
	}
	if pattern := q.Get("filter"); pattern != "" && r.version < 41 {
		if f == nil {
			f = filter.Args{}
		}
		f["reference"] = append(f["reference"], pattern)
	}
	list, err := s.o.Images.List(r.Context(), image.ListOptions{
		All: boolOf(q, "all"), Filters: f, Manifests: boolOf(q, "manifests"), SharedSize: boolOf(q, "shared-size"),
	})
	if err != nil {
		return err
	}
	if list == nil {
		list = []imagetypes.Summary{}
	}
	shown, err := imagesOf(list, r.version)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, shown)
}

func (s *Server) inspectImage(w *reply, r *request) error {
	img, err := s.o.Images.Inspect(r.Context(), r.name)
	if err != nil {
		return err
	}
	if !boolOf(r.URL.Query(), "manifests") {
		img.Manifests = nil
	}
	// Docker Compose 1 looks for the volumes of an image it recreates in a field that
	// is gone since API 1.45, and breaks off in the middle without it.
	if isComposeV1(r) {
		return writeJSON(w, http.StatusOK, struct {
			*imagetypes.InspectResponse
			ContainerConfig struct{}
		}{InspectResponse: img})
	}
	shown, err := imageOf(img, r.version)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, shown)
}

func (s *Server) imageHistory(w *reply, r *request) error {
	list, err := s.o.Images.History(r.Context(), r.name)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, list)
}

func (s *Server) tagImage(w *reply, r *request) error {
	q := r.URL.Query()
	target, err := namedTarget(q.Get("repo"), q.Get("tag"))
	if err != nil {
		return err
	}
	if err := s.o.Images.Tag(r.Context(), r.name, target); err != nil {
		return err
	}
	w.WriteHeader(http.StatusCreated)
	return nil
}

// namedTarget joins the repository and tag that clients send apart.
func namedTarget(repo, tag string) (string, error) {
	if repo == "" {
		return "", badRequest("invalid reference format: the repository name is empty")
	}
	ref, err := reference.ParseNormalizedNamed(repo)
	if err != nil {
		return "", badRequest("%s", err)
	}
	if _, ok := ref.(reference.Digested); ok {
		return "", badRequest("refusing to create a tag with a digest reference")
	}
	if tag == "" {
		return reference.FamiliarString(reference.TagNameOnly(ref)), nil
	}
	tagged, err := reference.WithTag(reference.TrimNamed(ref), tag)
	if err != nil {
		return "", badRequest("%s", err)
	}
	return reference.FamiliarString(tagged), nil
}

func (s *Server) removeImage(w *reply, r *request) error {
	q := r.URL.Query()
	list, err := s.o.Images.Remove(r.Context(), r.name, image.RemoveOptions{Force: boolOf(q, "force"), NoPrune: boolOf(q, "noprune")})
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, list)
}

func (s *Server) pruneImages(w *reply, r *request) error {
	f, err := filtersOf(r.URL.Query())
	if err != nil {
		return err
	}
	report, err := s.o.Images.Prune(r.Context(), f)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, report)
}

// isComposeV1 tells Docker Compose 1, whose code asks every version of the API for what
// only old ones have.
func isComposeV1(r *request) bool { return strings.HasPrefix(r.UserAgent(), "docker-compose/1.") }
