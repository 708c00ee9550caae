package server

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"

	"muelle/api"
)

// handler answers one request or returns the error that answers it.
type handler func(w *reply, r *request) error

// route is one line of the table. Its pattern may hold one {name}, which matches
// one or more path elements, slashes included: image names have them; and a last
// element {rest}, whose value nobody asks for.
type route struct {
	method, pattern string
	handle          handler
}

// router finds handlers by method and path. Patterns without {name} go first, then
// those with it in the table's order.
type router struct {
	exact map[string]handler
	named map[string][]namedRoute // by method and first path element
}

type namedRoute struct {
	prefix, suffix string
	rest           bool // suffix is followed by one more element
	handle         handler
}

func newRouter(table []route) *router {
	rt := &router{exact: map[string]handler{}, named: map[string][]namedRoute{}}
	for _, r := range table {
		prefix, suffix, named := strings.Cut(r.pattern, "{name}")
		if !named {
			rt.exact[r.method+r.pattern] = r.handle
			continue
		}
		key := r.method + firstElement(prefix)
		suffix, rest := strings.CutSuffix(suffix, "{rest}")
		rt.named[key] = append(rt.named[key], namedRoute{prefix, suffix, rest, r.handle})
	}
	return rt
}

func (rt *router) find(method, path string) (h handler, name string, ok bool) {
	if h, ok := rt.exact[method+path]; ok {
		return h, "", true
	}
	for _, r := range rt.named[method+firstElement(path)] {
		rest, ok := strings.CutPrefix(path, r.prefix)
		if !ok {
			continue
		}
		if i := strings.LastIndexByte(rest, '/'); r.rest && i >= 0 {
			rest = rest[:i+1]
		}
		if name, ok := strings.CutSuffix(rest, r.suffix); ok && name != "" {
			return r.handle, name, true
		}
	}
	return nil, "", false
}

// firstElement is "/containers" of "/containers/x/json".
func firstElement(path string) string {
	if i := strings.IndexByte(path[min(1, len(path)):], '/'); i >= 0 {
		return path[:i+1]
	}
	return path
}

// splitVersion takes /v1.44 off a path and refuses what is older than 1.least. Paths
// without a version are served as the newest.
func splitVersion(path string, least int) (minor int, rest string, err error) {
	after, ok := strings.CutPrefix(path, "/v")
	if !ok || after == "" || after[0] < '0' || after[0] > '9' {
		return newest, path, nil
	}
	version, rest, _ := strings.Cut(after, "/")
	major, minorText, _ := strings.Cut(version, ".")
	minor, err = strconv.Atoi(minorText)
	if err != nil || minor < 0 {
		return 0, "", errPageNotFound
	}
	switch {
	case major == "0" || major == "1" && minor < least:
		return 0, "", errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(
			"client version %s is too old. Minimum supported API version is %s, please upgrade your client to a newer version", version, "1."+strconv.Itoa(least)))
	case major != "1" || minor > newest:
		return 0, "", errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(
			"client version %s is too new. Maximum supported API version is %s", version, api.DefaultVersion))
	}
	return minor, "/" + rest, nil
}

// Minor numbers of api.MinVersion and api.DefaultVersion; a test holds them together.
const (
	oldest = 24
	newest = 56
)

// leastOf is the minor number of the oldest version to serve.
func leastOf(version string) int {
	_, minor, _ := strings.Cut(version, ".")
	n, err := strconv.Atoi(minor)
	if err != nil {
		return oldest
	}
	return n
}
