package client

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/registry"
)

// Images are the calls below /images.
type Images struct{ c *Client }

// EncodeAuth makes the X-Registry-Auth header's value.
func EncodeAuth(a registry.AuthConfig) string {
	// A struct of strings always encodes.
	b, _ := json.Marshal(a)
	return base64.URLEncoding.EncodeToString(b)
}

func authHeader(auth *registry.AuthConfig) http.Header {
	if auth == nil {
		return nil
	}
	return http.Header{registry.AuthHeader: {EncodeAuth(*auth)}}
}

// Pull streams a pull's progress (jsonstream messages). ref is split into
// repository and tag or digest here.
func (s Images) Pull(ctx context.Context, ref, platform string, all bool, auth *registry.AuthConfig) (io.ReadCloser, error) {
	name, tag := SplitRef(ref)
	if all {
		tag = ""
	}
	q := values("fromImage", name, "tag", tag, "platform", platform)
	return s.c.Stream(ctx, http.MethodPost, "/images/create", q, authHeader(auth), nil)
}

// SplitRef splits NAME[:TAG][@DIGEST] into name and tag, or digest where there is
// one. A missing tag is "latest".
func SplitRef(ref string) (name, tag string) {
	if name, digest, ok := strings.Cut(ref, "@"); ok {
		if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
			name = name[:i]
		}
		return name, digest
	}
	if i := strings.LastIndexByte(ref, ':'); i > strings.LastIndexByte(ref, '/') {
		return ref[:i], ref[i+1:]
	}
	return ref, "latest"
}

// Push streams a push's progress.
func (s Images) Push(ctx context.Context, ref, platform string, all bool, auth *registry.AuthConfig) (io.ReadCloser, error) {
	name, tag := SplitRef(ref)
	if all {
		tag = ""
	}
	if auth == nil {
		auth = &registry.AuthConfig{}
	}
	q := values("tag", tag, "platform", platform)
	return s.c.Stream(ctx, http.MethodPost, "/images/"+name+"/push", q, authHeader(auth), nil)
}

// Import makes an image of a file-system archive: source is "-" (body) or a URL.
func (s Images) Import(ctx context.Context, source, ref, platform, message string, changes []string, body io.Reader) (io.ReadCloser, error) {
	q := values("fromSrc", source, "message", message, "platform", platform)
	if ref != "" {
		name, tag := ref, ""
		if i := strings.LastIndexByte(ref, ':'); i > strings.LastIndexByte(ref, '/') {
			name, tag = ref[:i], ref[i+1:]
		}
		q.Set("repo", name)
		if tag != "" {
			q.Set("tag", tag)
		}
	}
	for _, c := range changes {
		q.Add("changes", c)
	}
	return s.c.Stream(ctx, http.MethodPost, "/images/create", q, http.Header{"Content-Type": {"application/x-tar"}}, body)
}

// ImageListOptions restrict a list of images.
type ImageListOptions struct {
	All, Manifests, SharedSize bool
	Filters                    Filters
}

// List lists images.
func (s Images) List(ctx context.Context, o ImageListOptions) ([]image.Summary, error) {
	q := values("all", flag(o.All), "manifests", flag(o.Manifests), "shared-size", flag(o.SharedSize))
	o.Filters.set(q)
	var out []image.Summary
	err := s.c.Get(ctx, "/images/json", q, &out)
	return out, err
}

// Inspect returns everything known of an image.
func (s Images) Inspect(ctx context.Context, ref string) (image.InspectResponse, error) {
	var out image.InspectResponse
	err := s.c.Get(ctx, "/images/"+ref+"/json", nil, &out)
	return out, err
}

// InspectRaw returns the daemon's own JSON. platform is "" or an OCI platform as JSON.
func (s Images) InspectRaw(ctx context.Context, ref, platform string) ([]byte, error) {
	var out []byte
	err := s.c.Get(ctx, "/images/"+ref+"/json", values("platform", platform), &out)
	return out, err
}

// History lists an image's steps.
func (s Images) History(ctx context.Context, ref, platform string) ([]image.HistoryResponseItem, error) {
	var out []image.HistoryResponseItem
	err := s.c.Get(ctx, "/images/"+ref+"/history", values("platform", platform), &out)
	return out, err
}

// Tag gives an image a further name.
func (s Images) Tag(ctx context.Context, ref, target string) error {
	name, tag := SplitRef(target)
	return s.c.Post(ctx, "/images/"+ref+"/tag", values("repo", name, "tag", tag), nil, nil)
}

// ImageRemoveOptions of an image; Platforms are OCI platforms as JSON.
type ImageRemoveOptions struct {
	Force, NoPrune bool
	Platforms      []string
}

// Remove removes a name, and the image with its last one.
func (s Images) Remove(ctx context.Context, ref string, o ImageRemoveOptions) ([]image.DeleteResponse, error) {
	q := values("force", flag(o.Force), "noprune", flag(o.NoPrune))
	for _, p := range o.Platforms {
		q.Add("platforms", p)
	}
	var out []image.DeleteResponse
	err := s.c.Delete(ctx, "/images/"+ref, q, &out)
	return out, err
}

// ImagePruneReport says what was removed.
type ImagePruneReport struct {
	ImagesDeleted  []image.DeleteResponse
	SpaceReclaimed uint64
}

// Prune removes unused images.
func (s Images) Prune(ctx context.Context, f Filters) (ImagePruneReport, error) {
	q := url.Values{}
	f.set(q)
	var out ImagePruneReport
	err := s.c.Post(ctx, "/images/prune", q, nil, &out)
	return out, err
}

// Load reads an archive of images; the answer is a jsonstream.
func (s Images) Load(ctx context.Context, archive io.Reader, quiet bool, platforms []string) (io.ReadCloser, error) {
	q := values("quiet", flag(quiet))
	if !quiet {
		q.Set("quiet", "0")
	}
	for _, p := range platforms {
		q.Add("platform", p)
	}
	return s.c.Stream(ctx, http.MethodPost, "/images/load", q, http.Header{"Content-Type": {"application/x-tar"}}, archive)
}

// Save streams images as an archive.
func (s Images) Save(ctx context.Context, refs, platforms []string) (io.ReadCloser, error) {
	q := url.Values{"names": refs}
	for _, p := range platforms {
		q.Add("platform", p)
	}
	return s.c.Stream(ctx, http.MethodGet, "/images/get", q, nil, nil)
}

// Search asks a registry for repositories.
func (s Images) Search(ctx context.Context, term string, limit string, f Filters, auth *registry.AuthConfig) ([]registry.SearchResult, error) {
	q := values("term", term, "limit", limit)
	f.set(q)
	res, err := s.c.do(ctx, request{method: http.MethodGet, path: "/images/search", query: q, header: authHeader(auth)})
	if err != nil {
		return nil, err
	}
	var out []registry.SearchResult
	err = decode(res, &out)
	return out, err
}
