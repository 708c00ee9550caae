package image_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/jsonstream"
	registrytypes "github.com/moby/moby/api/types/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"muelle/internal/image"
	"muelle/internal/image/imagetest"
	"muelle/internal/registry"
	"muelle/internal/remote"
	"muelle/internal/store"
)

// serve gives the address of a registry on loopback.
func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

// distribution gives the address of the real registry.
func distribution(t *testing.T) string {
	t.Helper()
	h, stop, err := registry.New(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	return serve(t, h)
}

// log keeps what is told. Of layers, all must be told with progress, be it empty:
// without it clients add a line for each step.
type log struct{ lines, added []string }

func (l *log) add(m jsonstream.Message) {
	if m.Progress != nil && m.Progress.Total != 0 || m.Status == "" {
		return
	}
	if len(m.ID) == 12 && m.Progress == nil {
		l.added = append(l.added, m.Status)
	}
	line := m.Status
	if m.ID != "" {
		line = m.ID + ": " + line
	}
	l.lines = append(l.lines, line)
}

func TestPushAndPull(t *testing.T) {
	host := distribution(t)
	from, to := open(t, remote.Options{}), open(t, remote.Options{})
	load(t, from, imagetest.Archive(small("test:1")))
	name := host + "/library/test:1"
	if err := from.Tag(t.Context(), "test:1", name); err != nil {
		t.Fatal(err)
	}
	var pushed log
	if err := from.Push(t.Context(), name, image.PushOptions{Progress: pushed.add}); err != nil {
		t.Fatal(err)
	}
	img, err := from.Get(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	if first, last := pushed.lines[0], pushed.lines[len(pushed.lines)-1]; first != "The push refers to repository ["+host+"/library/test]" ||
		!strings.HasPrefix(last, "1: digest: "+img.ID.String()+" size: ") || countSuffix(pushed.lines, ": Pushed") != 3 {
		t.Errorf("push: %q", pushed.lines)
	}
	if pushed.added != nil {
		t.Errorf("push adds lines: %q", pushed.added)
	}
	var again log
	if err := from.Push(t.Context(), name, image.PushOptions{Progress: again.add}); err != nil || countSuffix(again.lines, ": Layer already exists") != 3 {
		t.Errorf("second push: %q, %v", again.lines, err)
	}

	var pulled log
	if err := to.Pull(t.Context(), name, image.PullOptions{Progress: pulled.add}); err != nil {
		t.Fatal(err)
	}
	if pulled.added != nil {
		t.Errorf("pull adds lines: %q", pulled.added)
	}
	if pulled.lines[0] != "1: Pulling from library/test" {
		t.Errorf("first line %q", pulled.lines[0])
	}
	for _, step := range []string{"Pulling fs layer", "Verifying Checksum", "Download complete", "Pull complete"} {
		if n := countSuffix(pulled.lines, ": "+step); n != 3 {
			t.Errorf("%q: %d times", step, n)
		}
	}
	want := []string{
		"Digest: " + img.ID.String(), name + " is a stand-in: busybox, by three files",
		"Status: Downloaded newer image for " + name,
	}
	if diff := cmp.Diff(want, pulled.lines[len(pulled.lines)-3:]); diff != "" {
		t.Error(diff)
	}
	got, err := to.Get(t.Context(), name)
	if err != nil || got.ID != img.ID {
		t.Fatalf("pulled: %v, %v", got, err)
	}
	if dirs, err := to.Lower(t.Context(), got, "c1"); err != nil || len(dirs) != 3 {
		t.Errorf("lower: %v, %v", dirs, err)
	}
	var fresh log
	if err := to.Pull(t.Context(), name, image.PullOptions{Progress: fresh.add}); err != nil || fresh.lines[len(fresh.lines)-1] != "Status: Image is up to date for "+name {
		t.Errorf("second pull: %q, %v", fresh.lines, err)
	}
	if err := to.Pull(t.Context(), host+"/library/test@"+img.ID.String(), image.PullOptions{}); err != nil {
		t.Errorf("pull by digest: %v", err)
	}
	if diff := cmp.Diff([]string{"pull " + host + "/library/test", "pull " + host + "/library/test", "pull " + host + "/library/test"}, to.events(t)); diff != "" {
		t.Error(diff)
	}
}

func countSuffix(lines []string, suffix string) int {
	n := 0
	for _, line := range lines {
		if strings.HasSuffix(line, suffix) {
			n++
		}
	}
	return n
}

func TestPullDockerTypes(t *testing.T) {
	img := small()
	img.Docker = true
	server := &imagetest.Registry{}
	server.Add("x/test", "latest", img.Blobs())
	host := serve(t, server)
	e := open(t, remote.Options{})
	if err := e.Pull(t.Context(), host+"/x/test", image.PullOptions{}); err != nil {
		t.Fatal(err)
	}
	got, err := e.Get(t.Context(), host+"/x/test")
	if err != nil || got.Manifest.MediaType != "application/vnd.docker.distribution.manifest.v2+json" {
		t.Errorf("media type kept: %+v, %v", got, err)
	}
}

func TestPullPlatforms(t *testing.T) {
	arm := small()
	arm.Platform = ocispec.Platform{OS: "linux", Architecture: "riscv64"}
	arm.Config.Cmd = []string{"other"}
	index := imagetest.Index(arm, small())
	server := &imagetest.Registry{}
	server.Add("x/test", "latest", index)
	server.Add("x/other", "latest", imagetest.Index(arm))
	host := serve(t, server)
	e := open(t, remote.Options{})
	if err := e.Pull(t.Context(), host+"/x/test", image.PullOptions{}); err != nil {
		t.Fatal(err)
	}
	img, err := e.Get(t.Context(), host+"/x/test")
	if err != nil || img.ID != index.Manifest.Digest || img.Config.Config.Cmd[0] != "true" {
		t.Errorf("host's platform: %+v, %v", img, err)
	}
	if slices.Contains(server.Requests(), "GET /v2/x/test/manifests/"+arm.Blobs().Manifest.Digest.String()) {
		t.Error("another platform's manifest was fetched")
	}
	err = e.Pull(t.Context(), host+"/x/other", image.PullOptions{})
	if !errdefs.IsNotFound(err) || !strings.HasPrefix(err.Error(), "no matching manifest for linux/") {
		t.Errorf("no platform: %v", err)
	}
	if err := e.Pull(t.Context(), host+"/x/other", image.PullOptions{Platform: "linux/riscv64"}); err != nil {
		t.Fatal(err)
	}
	if img, err := e.Get(t.Context(), host+"/x/other"); err != nil || img.Config.Config.Cmd[0] != "other" {
		t.Errorf("asked platform: %+v, %v", img, err)
	}
	if err := e.Pull(t.Context(), host+"/x/test", image.PullOptions{Platform: "no/such/plat/form"}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("bad platform: %v", err)
	}
}

func TestPullErrors(t *testing.T) {
	lost, spoilt := imagetest.Image{Layers: []imagetest.Layer{{"a": "lost"}}}.Blobs(), imagetest.Image{Layers: []imagetest.Layer{{"a": strings.Repeat("spoilt", 99)}}}.Blobs()
	server := &imagetest.Registry{
		Lose:  map[digest.Digest]bool{lost.Layers[0].Digest: true},
		Spoil: map[digest.Digest]bool{spoilt.Layers[0].Digest: true},
	}
	server.Add("x/lost", "latest", lost)
	server.Add("x/spoilt", "latest", spoilt)
	host := serve(t, server)
	private := &imagetest.Registry{User: "ann", Password: "secret"}
	private.Add("x/test", "latest", small().Blobs())
	privateHost := serve(t, private)
	limited := serve(t, &imagetest.Registry{Status: http.StatusTooManyRequests})
	closed := httptest.NewServer(nil)
	closed.Close()
	for _, tt := range []struct {
		name, ref string
		class     func(error) bool
		want      string
	}{
		{"bad name", "No:Such:Name", errdefs.IsInvalidArgument, "invalid reference format"},
		{"no such tag", host + "/x/nosuch:3", errdefs.IsNotFound, "manifest for " + host + "/x/nosuch:3 not found: manifest unknown: manifest unknown"},
		{"lost layer", host + "/x/lost", errdefs.IsNotFound, "the registry does not have all of it"},
		{"spoilt layer", host + "/x/spoilt", nil, "filesystem layer verification failed for digest " + spoilt.Layers[0].Digest.String()},
		{"needs login", privateHost + "/x/test", errdefs.IsNotFound,
			"pull access denied for " + privateHost + "/x/test, repository does not exist or may require 'docker login'"},
		{"rate limit", limited + "/x/test", errdefs.IsResourceExhausted, "toomanyrequests"},
		{"nobody there", strings.TrimPrefix(closed.URL, "http://") + "/x/test", errdefs.IsUnavailable, "connection refused"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := open(t, remote.Options{})
			err := e.Pull(t.Context(), tt.ref, image.PullOptions{})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("%v, want %q", err, tt.want)
			}
			if tt.class != nil && !tt.class(err) {
				t.Errorf("class of %v", err)
			}
			wantEmpty(t, e)
		})
	}
}

// max-download-attempts: a layer is asked for as often, and a registry in trouble forgiven.
func TestPullTriesAgain(t *testing.T) {
	b := small().Blobs()
	layer := b.Layers[0].Digest
	server := &imagetest.Registry{}
	server.Add("x/busy", "latest", b)
	ref := serve(t, server) + "/x/busy"
	pull := func(busy, attempts int) (asked int, err error) {
		e := open(t, remote.Options{})
		e.SetLimits(3, attempts, 5)
		server.Busy = map[digest.Digest]int{layer: busy}
		before := len(server.Requests())
		if err = e.Pull(t.Context(), ref, image.PullOptions{}); err != nil {
			wantEmpty(t, e)
		}
		for _, r := range server.Requests()[before:] {
			if strings.HasSuffix(r, "/blobs/"+layer.String()) {
				asked++
			}
		}
		return asked, err
	}
	// One attempt may be several requests, to one address by TLS and without.
	once, err := pull(99, 1)
	if err == nil || once == 0 {
		t.Fatalf("asked %d times: %v", once, err)
	}
	if asked, err := pull(99, 3); err == nil || asked != 3*once {
		t.Errorf("three attempts asked %d times, one %d: %v", asked, once, err)
	}
	if _, err := pull(2*once, 3); err != nil {
		t.Errorf("the third attempt would have worked: %v", err)
	}
}

// wantEmpty collects garbage and finds nothing left.
func wantEmpty(t *testing.T, e engine) {
	t.Helper()
	if err := e.store.CollectGarbage(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := e.store.Content().Walk(context.Background(), func(info content.Info) error {
		t.Errorf("blob %s is left", info.Digest)
		return nil
	}); err != nil {
		t.Error(err)
	}
	if ingests, err := e.store.Content().ListStatuses(context.Background()); err != nil || len(ingests) > 0 {
		t.Errorf("ingests are left: %v, %v", ingests, err)
	}
	if list, err := e.List(context.Background(), image.ListOptions{}); err != nil || len(list) > 0 {
		t.Errorf("images: %v, %v", list, err)
	}
}

func TestPullWithLogin(t *testing.T) {
	for name, private := range map[string]*imagetest.Registry{
		"basic":  {User: "ann", Password: "secret"},
		"bearer": {User: "ann", Password: "secret", Bearer: true},
	} {
		t.Run(name, func(t *testing.T) {
			private.Add("x/test", "latest", small().Blobs())
			host := serve(t, private)
			e := open(t, remote.Options{})
			for _, wrong := range []*registrytypes.AuthConfig{nil, {Username: "ann", Password: "wrong"}} {
				if err := e.Pull(t.Context(), host+"/x/test", image.PullOptions{Auth: wrong}); err == nil {
					t.Errorf("pulled with %+v", wrong)
				}
			}
			right := &registrytypes.AuthConfig{Username: "ann", Password: "secret"}
			if err := e.Pull(t.Context(), host+"/x/test", image.PullOptions{Auth: right}); err != nil {
				t.Error(err)
			}
		})
	}
	e := open(t, remote.Options{})
	private := &imagetest.Registry{User: "ann", Password: "secret", Bearer: true}
	private.Add("x/test", "latest", small().Blobs())
	if err := e.Pull(t.Context(), serve(t, private)+"/x/test", image.PullOptions{Auth: &registrytypes.AuthConfig{RegistryToken: "the-token"}}); err != nil {
		t.Errorf("with a registry token: %v", err)
	}
}

func TestMirror(t *testing.T) {
	mirror := &imagetest.Registry{User: "ann", Password: "secret"}
	mirror.Add("library/test", "latest", small().Blobs())
	host := serve(t, mirror)
	e := open(t, remote.Options{Mirrors: []string{"http://" + host}})
	auth := &registrytypes.AuthConfig{Username: "ann", Password: "secret"}
	// docker.io cannot be reached from a test; what counts is what the mirror saw.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_ = e.Pull(ctx, "test", image.PullOptions{Auth: auth})
	if secrets := mirror.Secrets(); len(secrets) > 0 {
		t.Errorf("the mirror was told %q", secrets)
	}

	open1 := &imagetest.Registry{}
	open1.Add("library/test", "latest", small().Blobs())
	e = open(t, remote.Options{Mirrors: []string{"http://" + serve(t, &imagetest.Registry{}), "http://" + serve(t, open1)}})
	var lines log
	if err := e.Pull(t.Context(), "test", image.PullOptions{Auth: auth, Progress: lines.add}); err != nil {
		t.Fatal(err)
	}
	if lines.lines[0] != "latest: Pulling from library/test" || lines.lines[len(lines.lines)-1] != "Status: Downloaded newer image for test:latest" {
		t.Errorf("lines: %q", lines.lines)
	}
	if secrets := open1.Secrets(); len(secrets) > 0 {
		t.Errorf("the mirror was told %q", secrets)
	}
}

func TestCancelledPull(t *testing.T) {
	blobs := small().Blobs()
	ctx, cancel := context.WithCancel(t.Context())
	server := &imagetest.Registry{Hold: func(reqCtx context.Context, dgst digest.Digest) {
		if dgst == blobs.Layers[1].Digest {
			cancel()
			<-reqCtx.Done()
		}
	}}
	server.Add("x/test", "latest", blobs)
	e := open(t, remote.Options{})
	err := e.Pull(ctx, serve(t, server)+"/x/test", image.PullOptions{})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled pull: %v", err)
	}
	wantEmpty(t, e)
}

func TestConcurrentPulls(t *testing.T) {
	server := &imagetest.Registry{}
	one, two := small(), small()
	two.Layers = append(slices.Clone(two.Layers[:2]), imagetest.Layer{"two": "2"})
	server.Add("x/one", "latest", one.Blobs())
	server.Add("x/two", "latest", two.Blobs())
	host := serve(t, server)
	e := open(t, remote.Options{})
	var pulls sync.WaitGroup
	for i := range 6 {
		pulls.Go(func() {
			ref := host + "/x/" + []string{"one", "two"}[i%2]
			if err := e.Pull(t.Context(), ref, image.PullOptions{}); err != nil {
				t.Errorf("%s: %v", ref, err)
			}
		})
	}
	pulls.Wait()
	fetched := map[string]int{}
	for _, request := range server.Requests() {
		if _, blob, ok := strings.Cut(request, "/blobs/"); ok && strings.HasPrefix(request, "GET") {
			fetched[blob]++
		}
	}
	for blob, n := range fetched {
		if n != 1 {
			t.Errorf("blob %s was fetched %d times", blob, n)
		}
	}
	for _, name := range []string{"one", "two"} {
		img, err := e.Get(t.Context(), host+"/x/"+name)
		if err != nil {
			t.Fatal(err)
		}
		if dirs, err := e.Lower(t.Context(), img, name); err != nil || len(dirs) != 3 {
			t.Errorf("lower of %s: %v, %v", name, dirs, err)
		}
	}
}

func TestRemovedImageIsCollectedUnlessUsed(t *testing.T) {
	e := open(t, remote.Options{})
	load(t, e, imagetest.Archive(small("test:1")))
	img, err := e.Get(t.Context(), "test:1")
	if err != nil {
		t.Fatal(err)
	}
	dirs, err := e.Lower(t.Context(), img, "c1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Remove(t.Context(), "test:1", image.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	wantEmpty(t, e)
	if again, err := e.store.Lower(t.Context(), img.ChainID); err != nil || !cmp.Equal(dirs, again) {
		t.Errorf("retained chain: %v, %v", again, err)
	}
	e.Release("c1")
	wantEmpty(t, e)
	if _, err := e.store.Lower(t.Context(), img.ChainID); !errdefs.IsNotFound(err) {
		t.Errorf("released chain: %v", err)
	}
}

func TestLoadRefusesBadArchives(t *testing.T) {
	good := small("test:1")
	blobs := good.Blobs()
	desc := blobs.Manifest
	wrongName := imagetest.File{Name: "blobs/sha256/" + strings.Repeat("0", 64), Body: []byte("not that")}
	for name, archive := range map[string][]byte{
		"empty":              {},
		"no tar":             []byte(strings.Repeat("this is no archive ", 100)),
		"no manifest":        imagetest.Pack(imagetest.File{Name: "a", Body: []byte("b")}),
		"absolute path":      imagetest.Pack(imagetest.File{Name: "/etc/passwd", Body: []byte("b")}),
		"path out of it":     imagetest.Pack(imagetest.File{Name: "a/../../etc/passwd", Body: []byte("b")}),
		"manifest out of it": imagetest.Pack(imagetest.File{Name: "manifest.json", Body: []byte(`[{"Config":"../x","Layers":[]}]`)}),
		"missing layer":      imagetest.Pack(imagetest.File{Name: "c", Body: []byte(`{}`)}, imagetest.File{Name: "manifest.json", Body: []byte(`[{"Config":"c","Layers":["l"]}]`)}),
		"dangling link":      imagetest.Pack(imagetest.File{Name: "a", Linkname: "b"}, imagetest.File{Name: "b", Linkname: "a"}, imagetest.File{Name: "manifest.json", Body: []byte(`[{"Config":"a"}]`)}),
		"wrong digest":       imagetest.Pack(wrongName),
		"wrong blob name":    imagetest.Pack(imagetest.File{Name: "blobs/sha256/xyz", Body: []byte("b")}),
		"bad tag":            bytes.Replace(imagetest.Archive(good), []byte(`"test:1"`), []byte(`"TEST:1"`), 1),
		"manifest missing":   imagetest.Blobs{}.Layout(desc),
		"unknown type":       blobs.Layout(ocispec.Descriptor{MediaType: "text/plain", Digest: desc.Digest, Size: desc.Size}),
		"truncated":          imagetest.Archive(good)[:4000],
	} {
		t.Run(name, func(t *testing.T) {
			e := open(t, remote.Options{})
			if err := e.Load(t.Context(), bytes.NewReader(archive), true, nil); !errdefs.IsInvalidArgument(err) {
				t.Errorf("load: %v", err)
			}
			wantEmpty(t, e)
		})
	}
}

func TestLoadVerifiesLayers(t *testing.T) {
	// The layer is whole, but not the one that the configuration tells of.
	archive := imagetest.Archive(imagetest.Image{Names: []string{"test:1"}, Layers: []imagetest.Layer{{"a": "one"}}})
	e := open(t, remote.Options{})
	err := e.Load(t.Context(), bytes.NewReader(bytes.Replace(archive, []byte("one"), []byte("two"), 1)), true, nil)
	if err == nil || !strings.Contains(err.Error(), "wrong diff id") {
		t.Errorf("load: %v", err)
	}
	wantEmpty(t, e)
}

// FuzzLoad: whatever the archive, Load ends, and stores nothing that it did not name.
func FuzzLoad(f *testing.F) {
	f.Add(imagetest.Archive(small("test:1")))
	f.Add(imagetest.LayoutArchive(small("test:1")))
	f.Add(layoutOf(small().Blobs()))
	f.Add(imagetest.Pack(imagetest.File{Name: "../x", Linkname: "manifest.json"}))
	f.Fuzz(func(t *testing.T, archive []byte) {
		if len(archive) > 1<<20 {
			return
		}
		e := open(t, remote.Options{})
		if err := e.Load(t.Context(), bytes.NewReader(archive), true, nil); err != nil {
			wantEmpty(t, e)
			return
		}
		if list, err := e.List(t.Context(), image.ListOptions{}); err != nil || len(list) == 0 {
			t.Errorf("loaded nothing: %v, %v", list, err)
		}
	})
}

func pull(t *testing.T, e engine, ref string) {
	t.Helper()
	if err := e.Pull(t.Context(), ref, image.PullOptions{}); err != nil {
		t.Fatal(err)
	}
}

func BenchmarkGetAndLower(b *testing.B) {
	st, err := store.Open(b.Context(), b.TempDir(), nil)
	if err != nil {
		b.Fatal(err)
	}
	defer st.Close()
	s := image.New(image.Options{Store: st})
	if err := s.Load(b.Context(), bytes.NewReader(imagetest.Archive(small("test:1"))), true, nil); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		img, err := s.Get(b.Context(), "test:1")
		if err != nil {
			b.Fatal(err)
		}
		if _, err := s.Lower(b.Context(), img, "c1"); err != nil {
			b.Fatal(err)
		}
		s.Release("c1")
	}
}

// Of an index whose other platforms are not here, the part for this host is pushed.
func TestPushOfPartialIndex(t *testing.T) {
	other := small()
	other.Platform = ocispec.Platform{OS: "linux", Architecture: "riscv64"}
	server := &imagetest.Registry{}
	server.Add("x/test", "latest", imagetest.Index(other, small()))
	from, to := open(t, remote.Options{}), open(t, remote.Options{})
	source, target := serve(t, server)+"/x/test", distribution(t)+"/x/test"
	pull(t, from, source)
	if err := from.Tag(t.Context(), source, target); err != nil {
		t.Fatal(err)
	}
	if err := from.Push(t.Context(), target, image.PushOptions{}); err != nil {
		t.Fatal(err)
	}
	pull(t, to, target)
	got, err := to.Get(t.Context(), target)
	if err != nil || got.ID != small().Blobs().Manifest.Digest {
		t.Errorf("pushed: %+v, %v", got, err)
	}
	if err := from.Push(t.Context(), "nosuch", image.PushOptions{}); !errdefs.IsNotFound(err) ||
		err.Error() != "An image does not exist locally with the tag: nosuch" {
		t.Errorf("push of nothing: %v", err)
	}
}
