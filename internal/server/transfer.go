package server

import (
	"context"
	"io"
	"net/http"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/opencontainers/go-digest"

	"muelle/internal/image"
)

type imageTransfer interface {
	Pull(ctx context.Context, ref string, o image.PullOptions) error
	Push(ctx context.Context, ref string, o image.PushOptions) error
	Load(ctx context.Context, r io.Reader, quiet bool, progress func(jsonstream.Message)) error
	Save(ctx context.Context, refs []string, w io.Writer) error
	Import(ctx context.Context, o image.ImportOptions, r io.Reader) (digest.Digest, error)
	ImportURL(ctx context.Context, o image.ImportOptions, address string, progress func(jsonstream.Message)) (digest.Digest, error)
}

// createImage pulls (fromImage) or imports (fromSrc).
func (s *Server) createImage(w *reply, r *request) error {
	q := r.URL.Query()
	platform, err := platformOf(q, "platform")
	if err != nil {
		return err
	}
	if from := q.Get("fromImage"); from != "" {
		ref, err := pullReference(from, q.Get("tag"))
		if err != nil {
			return err
		}
		out := newProgress(w)
		return out.end(s.o.Images.Pull(r.Context(), ref, image.PullOptions{Platform: platform, Auth: authOf(r.Header), Progress: out.send}))
	}
	return s.importImage(w, r, platform)
}

// pullReference joins name and tag, which may be a digest. Without either, the tag
// is latest: "all tags" is asked for by nobody but `pull -a`.
func pullReference(from, tag string) (string, error) {
	ref, err := reference.ParseNormalizedNamed(strings.TrimRight(from, ":"))
	if err != nil {
		return "", badRequest("invalid reference format: %s", from)
	}
	if tag != "" {
		trimmed := reference.TrimNamed(ref)
		if dgst, derr := digest.Parse(tag); derr == nil {
			ref, err = reference.WithDigest(trimmed, dgst)
		} else {
			ref, err = reference.WithTag(trimmed, tag)
		}
		if err != nil {
			return "", badRequest("%s", err)
		}
	}
	return reference.FamiliarString(reference.TagNameOnly(ref)), nil
}

func (s *Server) importImage(w *reply, r *request, platform string) error {
	q := r.URL.Query()
	o := image.ImportOptions{Message: q.Get("message"), Changes: q["changes"], Platform: platform}
	if q.Get("repo") != "" {
		target, err := namedTarget(q.Get("repo"), q.Get("tag"))
		if err != nil {
			return err
		}
		o.Ref = target
	}
	out := newProgress(w)
	var id digest.Digest
	var err error
	if src := q.Get("fromSrc"); src != "-" {
		id, err = s.o.Images.ImportURL(r.Context(), o, src, out.send)
	} else {
		if o.Message == "" {
			o.Message = "Imported from -"
		}
		id, err = s.o.Images.Import(r.Context(), o, r.Body)
	}
	if err == nil {
		out.send(jsonstream.Message{Status: id.String()})
	}
	return out.end(err)
}

func (s *Server) loadImages(w *reply, r *request) error {
	q := r.URL.Query()
	if q.Has("platform") {
		return errdefs.ErrNotImplemented.WithMessage("loading one platform of an archive is not supported")
	}
	out := newProgress(w)
	return out.end(s.o.Images.Load(r.Context(), r.Body, boolOr(q, "quiet", true), out.send))
}

// saveImages sends a tar stream. An error after its first byte can only cut it
// short: the connection is then broken on purpose.
func (s *Server) saveImages(w *reply, r *request) error {
	refs := r.URL.Query()["names"]
	if r.name != "" {
		refs = []string{r.name}
	}
	if len(refs) == 0 {
		return badRequest("no image names given")
	}
	if r.URL.Query().Has("platform") {
		return errdefs.ErrNotImplemented.WithMessage("saving one platform of an image is not supported")
	}
	w.Header().Set("Content-Type", "application/x-tar")
	err := s.o.Images.Save(r.Context(), refs, w)
	if err != nil && w.begun {
		s.log.Error("save images", "image", strings.Join(refs, " "), "err", err)
		panic(http.ErrAbortHandler)
	}
	return err
}

func (s *Server) pushImage(w *reply, r *request) error {
	ref := r.name
	if tag := r.URL.Query().Get("tag"); tag != "" {
		target, err := namedTarget(ref, tag)
		if err != nil {
			return err
		}
		ref = target
	}
	out := newProgress(w)
	return out.end(s.o.Images.Push(r.Context(), ref, image.PushOptions{Auth: authOf(r.Header), Progress: out.send}))
}
