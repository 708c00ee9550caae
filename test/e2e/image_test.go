//go:build root

package e2e

import (
	"archive/tar"
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPullAndImages(t *testing.T) {
	forEach(t, func(t *testing.T, c client) {
		r := c.try(t, "pull", "alpine:3.20")
		if r.code != 0 || !strings.Contains(r.out, "Digest: sha256:") || !strings.Contains(r.out, "Status: ") || !strings.Contains(r.out, "docker.io/library/alpine:3.20") {
			t.Errorf("pull: %+v", r)
		}
		if r := c.try(t, "pull", "alpine:3.20"); !strings.Contains(r.out, "Image is up to date for alpine:3.20") {
			t.Errorf("second pull: %+v", r)
		}
		if got := c.must(t, "images", "--format", "{{.Repository}}:{{.Tag}}", "alpine"); got != "alpine:3.20" {
			t.Errorf("images %q", got)
		}
		if got := c.must(t, "inspect", "-f", `{{index .Config.Labels "io.muelle.standin"}}`, "alpine:3.20"); !strings.Contains(got, "alpine, by") {
			t.Errorf("label %q", got)
		}
		if r := c.try(t, "images", "alpine"); c.name == "muelle" && !strings.Contains(r.err, "alpine:3.20 is, or is built on, a stand-in: alpine, by") {
			t.Errorf("images does not say that it is a stand-in: %+v", r)
		}
		c.must(t, "tag", "alpine:3.20", "local/mine:1")
		if got := c.must(t, "images", "-q", "--no-trunc", "local/mine:1"); got != c.must(t, "inspect", "-f", "{{.Id}}", "alpine:3.20") {
			t.Errorf("the tag is another image: %q", got)
		}
		if got := c.must(t, "rmi", "local/mine:1"); got != "Untagged: local/mine:1" {
			t.Errorf("rmi of one of two tags printed %q", got)
		}
		name := c.unique(t, "c")
		c.must(t, "create", "--name", name, "alpine:3.20")
		if r := c.try(t, "rmi", "alpine:3.20"); r.code == 0 || !strings.Contains(r.err, "conflict: unable to") {
			t.Errorf("rmi of an image in use: %+v", r)
		}
		c.must(t, "rm", name)
		if got := c.must(t, "rmi", "alpine:3.20"); !strings.Contains(got, "Untagged: alpine:3.20") || !strings.Contains(got, "Deleted: sha256:") {
			t.Errorf("rmi printed %q", got)
		}
		if r := c.try(t, "rmi", "alpine:3.20"); r.code == 0 || !strings.Contains(r.err, "No such image: alpine:3.20") {
			t.Errorf("second rmi: %+v", r)
		}
		if r := c.try(t, "pull", "busybox:no-such-tag"); r.code == 0 || !strings.Contains(r.err, "not found") && !strings.Contains(r.err, "manifest unknown") {
			t.Errorf("pull of a missing tag: %+v", r)
		}
	})
}

func TestSaveLoadImport(t *testing.T) {
	forEach(t, func(t *testing.T, c client) {
		c.must(t, "pull", "-q", "alpine:latest")
		file := filepath.Join(t.TempDir(), "a.tar")
		c.must(t, "save", "-o", file, "alpine:latest")
		id := c.must(t, "inspect", "-f", "{{.Id}}", "alpine:latest")
		c.must(t, "rmi", "alpine:latest")
		if got := c.must(t, "load", "-i", file); !strings.Contains(got, "Loaded image: alpine:latest") {
			t.Errorf("load printed %q", got)
		}
		if got := c.must(t, "inspect", "-f", "{{.Id}}", "alpine:latest"); got != id {
			t.Errorf("id %q after save and load, before %q", got, id)
		}
		if got := c.must(t, "run", "--rm", "alpine:latest", "echo", "runs"); got != "runs" {
			t.Errorf("run printed %q", got)
		}
		c.must(t, "rmi", "alpine:latest")

		var tarball bytes.Buffer
		tw := tar.NewWriter(&tarball)
		busybox, err := os.ReadFile("/bin/busybox")
		if err != nil {
			t.Fatal(err)
		}
		tw.WriteHeader(&tar.Header{Name: "bin/", Typeflag: tar.TypeDir, Mode: 0o755})
		tw.WriteHeader(&tar.Header{Name: "bin/busybox", Mode: 0o755, Size: int64(len(busybox))})
		tw.Write(busybox)
		tw.Close()
		r := c.pipe(t, tarball.Bytes(), "import", "-c", `CMD ["/bin/busybox", "echo", "imported"]`, "-", "local/imported:1")
		if r.code != 0 || !strings.HasPrefix(r.out, "sha256:") {
			t.Fatalf("import: %+v", r)
		}
		if got := c.must(t, "run", "--rm", "local/imported:1"); got != "imported" {
			t.Errorf("run of the imported image printed %q", got)
		}
		c.must(t, "rmi", "local/imported:1")

		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/rootfs.tar" {
				w.Write(tarball.Bytes())
				return
			}
			http.Error(w, "gone away", http.StatusGone)
		}))
		defer srv.Close()
		if got := c.must(t, "import", "-c", `CMD ["/bin/busybox", "echo", "fetched"]`, srv.URL+"/rootfs.tar", "local/fetched:1"); !strings.Contains(got, "Downloading from "+srv.URL+"/rootfs.tar") || !strings.Contains(got, "sha256:") {
			t.Errorf("import of a URL: %q", got)
		}
		if got := c.must(t, "run", "--rm", "local/fetched:1"); got != "fetched" {
			t.Errorf("run of the fetched image printed %q", got)
		}
		c.must(t, "rmi", "local/fetched:1")
		if r := c.try(t, "import", srv.URL+"/other.tar"); r.code == 0 || !strings.Contains(r.err, "failed to GET "+srv.URL+"/other.tar with status 410 Gone: gone away") {
			t.Errorf("import of what is not there: %+v", r)
		}
		if r := c.pipe(t, []byte("this is no archive"), "load"); r.code == 0 {
			t.Errorf("load of rubbish: %+v", r)
		}
	})
}

//muelle:ring
func TestBuild(t *testing.T) {
	forEach(t, func(t *testing.T, c client) {
		dir := t.TempDir()
		write := func(name, text string) {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		write("Dockerfile", `FROM busybox:1.36 AS base
ARG GREETING=hello
RUN echo "$GREETING" >/greeting && id -u >/uid
FROM busybox:1.36
COPY --from=base /greeting /uid /
COPY . /context/
WORKDIR /work
ENV A=1
LABEL made=here
CMD ["sh", "-c", "cat /greeting /uid; ls /context; pwd; echo $A"]
`)
		write(".dockerignore", "secret\n")
		write("secret", "x")
		write("file", "y")
		tag := "built/" + c.name + ":1"
		c.must(t, "build", "-t", tag, "--build-arg", "GREETING=hola", dir)
		t.Cleanup(func() { c.must(t, "rmi", "-f", tag) })
		if got := c.must(t, "run", "--rm", tag); got != "hola\n0\nDockerfile\nfile\n/work\n1" {
			t.Errorf("run printed %q", got)
		}
		if got := c.must(t, "inspect", "-f", "{{.Config.Labels.made}}", tag); got != "here" {
			t.Errorf("label %q", got)
		}
		first := c.must(t, "build", "-q", "--build-arg", "GREETING=hola", dir)
		second := c.must(t, "build", "-q", "--build-arg", "GREETING=hola", dir)
		if first != second || !strings.HasPrefix(first, "sha256:") {
			t.Errorf("-q printed %q and %q", first, second)
		}
		write("Bad", "FROM busybox:1.36\nRUN echo about to fail && exit 7\n")
		r := c.try(t, "build", "-f", filepath.Join(dir, "Bad"), dir)
		if r.code == 0 || !strings.Contains(r.err+r.out, "exit code: 7") && !strings.Contains(r.err+r.out, "non-zero code: 7") {
			t.Errorf("a failing RUN: %+v", r)
		}
		write("Syntax", "FROM busybox:1.36\nRUNN true\n")
		if r := c.try(t, "build", "-f", filepath.Join(dir, "Syntax"), dir); r.code == 0 || !strings.Contains(strings.ToLower(r.err+r.out), "unknown instruction: runn") {
			t.Errorf("a bad instruction: %+v", r)
		}
	})
}

func TestBuildCacheMountAndTarget(t *testing.T) {
	c := ours(world.daemon)
	dir := t.TempDir()
	dockerfile := "FROM busybox:1.36 AS one\nARG N\nRUN --mount=type=cache,target=/cache echo $N >>/cache/list && cp /cache/list /list\nFROM one AS two\nRUN exit 1\n"
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(dockerfile), 0o644); err != nil {
		t.Fatal(err)
	}
	c.must(t, "build", "-q", "--target", "one", "--build-arg", "N=1", dir)
	id := c.must(t, "build", "-q", "--target", "one", "--build-arg", "N=2", dir)
	if got := c.must(t, "run", "--rm", id, "cat", "/list"); got != "1\n2" {
		t.Errorf("the cache mount held %q", got)
	}
}
