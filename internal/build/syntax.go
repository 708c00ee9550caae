package build

import (
	"context"
	"strconv"
	"strings"

	"github.com/distribution/reference"
	"github.com/moby/buildkit/executor"
	"github.com/moby/buildkit/frontend"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/solver/pb"
)

// syntaxFrontend serves "# syntax=docker/dockerfile:1". The stable releases of that
// image are the frontend that is built in, and each understands what the ones
// before it did: so a Dockerfile that asks for one not newer than ours gets ours,
// without a download and offline too. Everything else (labs, a digest, other
// frontends) runs from its image.
type syntaxFrontend struct {
	builtin, image frontend.Frontend
	version        string // of the built-in one
}

func (f syntaxFrontend) Solve(ctx context.Context, llb frontend.FrontendLLBBridge, exec executor.Executor, opt map[string]string, inputs map[string]*pb.Definition, sid string, sm *session.Manager) (*frontend.Result, error) {
	next := f.image
	if builtinSyntax(opt[frontend.KeySource], f.version) {
		next = f.builtin
	}
	return next.Solve(ctx, llb, exec, opt, inputs, sid, sm)
}

// builtinSyntax tells whether the frontend of that version can stand for the image.
func builtinSyntax(image, version string) bool {
	ref, err := reference.ParseNormalizedNamed(image)
	if err != nil || ref.Name() != "docker.io/docker/dockerfile" {
		return false
	}
	if _, pinned := ref.(reference.Digested); pinned {
		return false
	}
	tag := "latest"
	if t, ok := ref.(reference.Tagged); ok {
		tag = t.Tag()
	}
	return tag == "latest" || notNewer(tag, version)
}

// notNewer compares "1", "1.4" or "1.4.2" with a version such as "1.27.0-dev",
// number by number as far as the tag goes.
func notNewer(tag, version string) bool {
	version, _, _ = strings.Cut(version, "-")
	have := strings.Split(version, ".")
	want := strings.Split(tag, ".")
	if len(want) > len(have) {
		return false
	}
	for i := range want {
		w, err := strconv.Atoi(want[i])
		if err != nil {
			return false
		}
		h, err := strconv.Atoi(have[i])
		if err != nil {
			return false
		}
		// Another major version is another language.
		if w != h {
			return i > 0 && w < h
		}
	}
	return true
}
