package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/pkg/authconfig"
	"github.com/moby/moby/api/types/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"muelle/internal/filter"
)

// maxBody bounds a JSON body; a project with its configuration files inside is the
// largest of them.
const maxBody = 16 << 20

// badRequest gives an InvalidArgument with just this text.
func badRequest(format string, args ...any) error {
	return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(format, args...))
}

// readJSON decodes a body that may be empty, as Docker's endpoints take it. Unknown
// fields are ignored: clients of other versions send them.
func readJSON(w http.ResponseWriter, r *http.Request, v any) error {
	if r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 {
		return nil
	}
	if err := wantJSON(r); err != nil {
		return err
	}
	return decodeJSON(json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)), v)
}

// readStrictJSON decodes a body of Muelle's own API: it must be there and hold
// nothing unknown.
func readStrictJSON(w http.ResponseWriter, r *http.Request, v any) error {
	if err := wantJSON(r); err != nil {
		return err
	}
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	d.DisallowUnknownFields()
	return decodeJSON(d, v)
}

func wantJSON(r *http.Request) error {
	header := r.Header.Get("Content-Type")
	if header == "" && r.ContentLength == 0 {
		return nil
	}
	if t, _, err := mime.ParseMediaType(header); err != nil || t != "application/json" {
		return badRequest("unsupported Content-Type header (%s): must be 'application/json'", header)
	}
	return nil
}

func decodeJSON(d *json.Decoder, v any) error {
	var tooLarge *http.MaxBytesError
	switch err := d.Decode(v); {
	case errors.Is(err, io.EOF):
		return badRequest("invalid JSON: got EOF while reading request body")
	case errors.As(err, &tooLarge):
		return badRequest("request body is larger than %d MiB", maxBody>>20)
	case err != nil:
		return badRequest("invalid JSON: %s", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return badRequest("unexpected content after JSON")
	}
	return nil
}

// boolOf reads a flag as Docker does: absent, "0", "no", "false" and "none" are false.
func boolOf(q url.Values, key string) bool {
	switch strings.ToLower(strings.TrimSpace(q.Get(key))) {
	case "", "0", "no", "false", "none":
		return false
	}
	return true
}

// boolOr is boolOf with another default.
func boolOr(q url.Values, key string, absent bool) bool {
	if !q.Has(key) {
		return absent
	}
	return boolOf(q, key)
}

// intOf reads a number that may be absent.
func intOf(q url.Values, key string) (*int, error) {
	text := q.Get(key)
	if text == "" {
		return nil, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return nil, badRequest("invalid value for %s: %q is not a number", key, text)
	}
	return &n, nil
}

func int64Of(q url.Values, key string) (int64, error) {
	text := q.Get(key)
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, badRequest("invalid value for %s: %q is not a number", key, text)
	}
	return n, nil
}

// jsonOf reads a parameter that holds a JSON document.
func jsonOf(q url.Values, key string, v any) error {
	text := q.Get(key)
	if text == "" {
		return nil
	}
	if err := json.Unmarshal([]byte(text), v); err != nil {
		return badRequest("invalid value for %s: %s", key, err)
	}
	return nil
}

func filtersOf(q url.Values) (filter.Args, error) { return filter.Parse(q.Get("filters")) }

// timeOf reads Docker's timestamps: seconds, with nanoseconds after a dot.
func timeOf(q url.Values, key string) (time.Time, error) {
	text := q.Get(key)
	if text == "" || text == "0" {
		return time.Time{}, nil
	}
	whole, fraction, _ := strings.Cut(text, ".")
	sec, err := strconv.ParseInt(whole, 10, 64)
	if err == nil && fraction != "" {
		var nano int64
		nano, err = strconv.ParseInt((fraction + "000000000")[:9], 10, 64)
		if err == nil && nano >= 0 {
			return time.Unix(sec, nano), nil
		}
	}
	if err == nil && fraction == "" {
		return time.Unix(sec, 0), nil
	}
	if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return t, nil
	}
	return time.Time{}, badRequest("invalid value for %s: %q is not a timestamp", key, text)
}

// authOf reads X-Registry-Auth. As Docker, it takes an unreadable header for none:
// old clients send "{}" or an empty one.
func authOf(h http.Header) *registry.AuthConfig {
	text := h.Get(registry.AuthHeader)
	if text == "" {
		return nil
	}
	auth, err := authconfig.Decode(text)
	if err != nil || *auth == (registry.AuthConfig{}) {
		return nil
	}
	return auth
}

// platformOf reads a platform as "os/arch[/variant]" or, as newer clients send it,
// as JSON, and gives the former.
func platformOf(q url.Values, key string) (string, error) {
	text := q.Get(key)
	if !strings.HasPrefix(text, "{") {
		return text, nil
	}
	var p ocispec.Platform
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		return "", badRequest("invalid value for %s: %s", key, err)
	}
	parts := []string{p.OS, p.Architecture}
	if p.Variant != "" {
		parts = append(parts, p.Variant)
	}
	return strings.Join(parts, "/"), nil
}
