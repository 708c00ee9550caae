package server_test

import (
	"context"
	"errors"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/jsonstream"

	"muelle/api"
	"muelle/internal/image"
	"muelle/internal/server"
)

type pulled struct {
	server.Images
	pull func(ref string, o image.PullOptions) error
}

func (p pulled) Pull(_ context.Context, ref string, o image.PullOptions) error { return p.pull(ref, o) }

func TestPull(t *testing.T) {
	const digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	for _, tc := range []struct {
		name, query string
		told        bool
		err         error
		ref         string
		status      int
		body        string
	}{
		{"tag", "fromImage=busybox&tag=1.36", true, nil, "busybox:1.36", 200, `{"status":"Pulling"}` + "\n"},
		{"no tag", "fromImage=docker.io/library/busybox", true, nil, "busybox:latest", 200, `{"status":"Pulling"}` + "\n"},
		{"digest", "fromImage=busybox&tag=" + digest, true, nil, "busybox@" + digest, 200, `{"status":"Pulling"}` + "\n"},
		{"registry", "fromImage=localhost:5000/a/b&tag=c", true, nil, "localhost:5000/a/b:c", 200, `{"status":"Pulling"}` + "\n"},
		{"bad name", "fromImage=Busybox", false, nil, "", 400, `{"message":"invalid reference format: Busybox"}` + "\n"},
		{"early error", "fromImage=a", false, errdefs.ErrNotFound.WithMessage("manifest unknown"), "a:latest", 404, `{"message":"manifest unknown"}` + "\n"},
		{"late error", "fromImage=a", true, errors.New("cut off"), "a:latest", 200,
			`{"status":"Pulling"}` + "\n" + `{"errorDetail":{"message":"cut off"},"error":"cut off"}` + "\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var ref string
			h := serve(t, server.Options{Images: pulled{pull: func(r string, o image.PullOptions) error {
				ref = r
				if tc.told {
					o.Progress(jsonstream.Message{Status: "Pulling"})
				}
				return tc.err
			}}})
			res, body := h.do("POST", "/v1.44/images/create?"+tc.query, "", "")
			if res.StatusCode != tc.status || ref != tc.ref {
				t.Errorf("status %d, reference %q", res.StatusCode, ref)
			}
			if diff := cmp.Diff(tc.body, body); diff != "" {
				t.Error(diff)
			}
		})
	}
}

type projects struct {
	server.Projects
	err error
}

func (p projects) Up(_ context.Context, spec api.ProjectSpec, _ api.ProjectUpOptions, progress func(api.ProjectProgress)) error {
	progress(api.ProjectProgress{ID: "Network " + spec.Name, Status: "Created", Finished: true})
	return p.err
}

func TestProjectUp(t *testing.T) {
	for _, tc := range []struct {
		name, body string
		err        error
		status     int
		want       string
	}{
		{"good", `{"Spec":{"Version":1,"Name":"zones"}}`, nil, 200, `{"ID":"Network zones","Status":"Created","Finished":true}` + "\n" + `{"Done":true}` + "\n"},
		{"conflict", `{"Spec":{"Version":1,"Name":"zones"}}`, errdefs.ErrConflict.WithMessage("port taken"), 200,
			`{"ID":"Network zones","Status":"Created","Finished":true}` + "\n" + `{"Error":"port taken","Done":true,"Code":409}` + "\n"},
		{"other name", `{"Spec":{"Version":1,"Name":"other"}}`, nil, 400, `{"message":"the document is of project \"other\", the path of \"zones\""}` + "\n"},
		{"newer", `{"Spec":{"Version":99,"Name":"zones"}}`, nil, 400, `{"message":"the project's document has version 99, this daemon reads up to 1: update the daemon"}` + "\n"},
		{"unknown field", `{"Spec":{"Name":"zones"},"Typo":1}`, nil, 400, `{"message":"invalid JSON: json: unknown field \"Typo\""}` + "\n"},
		{"empty", ``, nil, 400, `{"message":"invalid JSON: got EOF while reading request body"}` + "\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := serve(t, server.Options{Projects: projects{err: tc.err}})
			res, body := h.do("POST", "/muelle/v1/projects/zones/up", "application/json", tc.body)
			if res.StatusCode != tc.status {
				t.Errorf("status %d", res.StatusCode)
			}
			if diff := cmp.Diff(tc.want, body); diff != "" {
				t.Error(diff)
			}
		})
	}
}
