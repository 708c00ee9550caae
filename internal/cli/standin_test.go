package cli_test

import (
	"strings"
	"testing"
)

func TestImagesTellsStandins(t *testing.T) {
	e := newEngine(t, map[string]string{
		"GET /images/json": `[{"Id":"sha256:1","RepoTags":["busybox:1"],"Labels":{"io.muelle.standin":"busybox, by Debian's"}},{"Id":"sha256:2","RepoTags":["real:1"]}]`,
	})
	r := e.run("muelle", "", "images")
	if want := "busybox:1 is, or is built on, a stand-in: busybox, by Debian's\n"; r.Code != 0 || r.Err != want {
		t.Errorf("%+v, want on standard error %q", r, want)
	}
	if strings.Contains(r.Out, "stand-in") {
		t.Errorf("standard output is not Docker's: %q", r.Out)
	}
	if r := e.run("muelle", "", "images", "-q"); r.Err != "" {
		t.Errorf("-q: %+v", r)
	}
}
