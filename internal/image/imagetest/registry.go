package imagetest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
)

// Registry is a registry in memory that only serves, for tests of what a real one
// does not do: it can lose, spoil and hold back blobs, ask for credentials, and
// remembers what it was asked. Fields are set before it serves.
type Registry struct {
	// Spoil has a blob's bytes changed, Lose has it answer 404.
	Spoil, Lose map[digest.Digest]bool
	// Hold, if not nil, is called before a blob is served.
	Hold func(ctx context.Context, dgst digest.Digest)
	// Busy is how often a blob is answered with 500 before it is served.
	Busy map[digest.Digest]int
	// User and Password are asked for by basic authentication where not empty.
	User, Password string
	// Bearer has them given at /token for a token instead.
	Bearer bool
	// Status, if not 0, is all that is answered.
	Status int

	mu        sync.Mutex
	blobs     map[digest.Digest][]byte
	manifests map[string][]byte // by "repository:tag" and "repository@digest"
	requests  []string
	secrets   []string
}

// Add makes blobs the content of repository:tag.
func (r *Registry) Add(repository, tag string, b Blobs) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.blobs == nil {
		r.blobs, r.manifests = map[digest.Digest][]byte{}, map[string][]byte{}
	}
	for dgst, data := range b.ByDigest {
		r.blobs[dgst] = data
		r.manifests[repository+"@"+dgst.String()] = data
	}
	r.manifests[repository+":"+tag] = b.ByDigest[b.Manifest.Digest]
}

// Requests lists what was asked, "GET /v2/…".
func (r *Registry) Requests() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.requests...)
}

// Secrets lists the Authorization headers that came.
func (r *Registry) Secrets() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.secrets...)
}

// ServeHTTP implements the part of the distribution protocol that a pull needs.
func (r *Registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	r.requests = append(r.requests, req.Method+" "+req.URL.Path)
	if secret := req.Header.Get("Authorization"); secret != "" {
		r.secrets = append(r.secrets, secret)
	}
	r.mu.Unlock()
	if r.Status != 0 {
		w.WriteHeader(r.Status)
		return
	}
	if r.User != "" && !r.authorized(w, req) {
		return
	}
	path := strings.TrimPrefix(req.URL.Path, "/v2/")
	if repository, ref, ok := strings.Cut(path, "/manifests/"); ok {
		r.serveManifest(w, req, repository, ref)
		return
	}
	if _, dgst, ok := strings.Cut(path, "/blobs/"); ok {
		r.serveBlob(w, req, digest.Digest(dgst))
	}
}

const token = "the-token"

// authorized answers the request itself where it may not go on.
func (r *Registry) authorized(w http.ResponseWriter, req *http.Request) bool {
	user, password, _ := req.BasicAuth()
	known := user == r.User && password == r.Password
	challenge := `Basic realm="test"`
	if r.Bearer {
		if req.URL.Path == "/token" && known {
			_, _ = fmt.Fprintf(w, `{"token":%q}`, token)
			return false
		}
		known = req.Header.Get("Authorization") == "Bearer "+token
		challenge = fmt.Sprintf(`Bearer realm="http://%s/token",service="test"`, req.Host)
	}
	if !known {
		w.Header().Set("WWW-Authenticate", challenge)
		refuse(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")
	}
	return known
}

func (r *Registry) serveManifest(w http.ResponseWriter, req *http.Request, repository, ref string) {
	separator := ":"
	if strings.Contains(ref, ":") {
		separator = "@"
	}
	r.mu.Lock()
	data, ok := r.manifests[repository+separator+ref]
	r.mu.Unlock()
	if !ok {
		refuse(w, http.StatusNotFound, "MANIFEST_UNKNOWN", "manifest unknown")
		return
	}
	var document struct{ MediaType string }
	must(json.Unmarshal(data, &document))
	w.Header().Set("Content-Type", document.MediaType)
	w.Header().Set("Docker-Content-Digest", digest.FromBytes(data).String())
	send(w, req, data)
}

func (r *Registry) serveBlob(w http.ResponseWriter, req *http.Request, dgst digest.Digest) {
	if r.Hold != nil {
		r.Hold(req.Context(), dgst)
	}
	r.mu.Lock()
	data, ok := r.blobs[dgst]
	busy := r.Busy[dgst] > 0
	if busy {
		r.Busy[dgst]--
	}
	r.mu.Unlock()
	if busy {
		refuse(w, http.StatusInternalServerError, "UNKNOWN", "try again")
		return
	}
	if !ok || r.Lose[dgst] {
		refuse(w, http.StatusNotFound, "BLOB_UNKNOWN", "blob unknown to registry")
		return
	}
	if r.Spoil[dgst] {
		data = append([]byte(nil), data...)
		data[len(data)/2] ^= 1
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	send(w, req, data)
}

func send(w http.ResponseWriter, req *http.Request, data []byte) {
	w.Header().Set("Content-Length", fmt.Sprint(len(data)))
	if req.Method != http.MethodHead {
		// A client that goes away in between is part of some tests.
		_, _ = w.Write(data)
	}
}

func refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `{"errors":[{"code":%q,"message":%q}]}`, code, message)
}
