package image_test

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/jsonstream"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"muelle/api"
	"muelle/internal/event"
	"muelle/internal/filter"
	"muelle/internal/image"
	"muelle/internal/image/imagetest"
	"muelle/internal/remote"
	"muelle/internal/store"
)

type engine struct {
	*image.Service
	store *store.Store
	bus   *event.Bus
}

func open(t *testing.T, o remote.Options) engine {
	t.Helper()
	return openAt(t, t.TempDir(), o)
}

func openAt(t *testing.T, root string, o remote.Options) engine {
	t.Helper()
	st, err := store.Open(t.Context(), root, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	resolver, err := remote.New(o)
	if err != nil {
		t.Fatal(err)
	}
	bus := event.NewBus(64)
	return engine{Service: image.New(image.Options{RetryDelay: 1, Store: st, Remote: resolver, Bus: bus}), store: st, bus: bus}
}

// events empties the bus into "action name" lines.
func (e engine) events(t *testing.T) []string {
	t.Helper()
	var out []string
	for m := range e.bus.Subscribe(t.Context(), time.Unix(1, 0), time.Now(), nil) {
		out = append(out, string(m.Action)+" "+m.Actor.Attributes["name"])
	}
	return out
}

func load(t *testing.T, e engine, archive []byte) string {
	t.Helper()
	var out strings.Builder
	if err := e.Load(t.Context(), bytes.NewReader(archive), false, func(m jsonstream.Message) { out.WriteString(m.Stream) }); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func small(names ...string) imagetest.Image {
	return imagetest.Image{
		Names: names,
		Layers: []imagetest.Layer{
			{"bin/true": "#!", "etc/": "", "etc/hosts": "one"},
			{"etc/motd": "welcome", "bin/sh -> true": ""},
			{"etc/hosts": "two"},
		},
		Config: dockerspec.DockerOCIImageConfig{ImageConfig: ocispec.ImageConfig{
			Cmd: []string{"true"}, Labels: map[string]string{"kind": "small", api.LabelStandin: "busybox, by three files"},
		}},
	}
}

func TestLoadArchive(t *testing.T) {
	for _, tt := range []struct {
		name    string
		archive []byte
		want    string
	}{
		{"docker archive", imagetest.Archive(small("test:1")), "Loaded image: test:1\n"},
		{"layout archive", imagetest.LayoutArchive(small("test:1")), "Loaded image: test:1\n"},
		{"two names", imagetest.Archive(small("test:1", "other/x:2")), "Loaded image: test:1\nLoaded image: other/x:2\n"},
		{"two images with shared layers", imagetest.Archive(small("test:1"), imagetest.Image{Names: []string{"next"}, Layers: small().Layers[:1]}),
			"Loaded image: test:1\nLoaded image: next:latest\n"},
		{"compressed layers of a layout", layoutOf(small("test:1").Blobs()), "Loaded image: test:1\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := open(t, remote.Options{})
			if diff := cmp.Diff(tt.want, load(t, e, tt.archive)); diff != "" {
				t.Error(diff)
			}
			img, err := e.Get(t.Context(), "test:1")
			if err != nil {
				t.Fatal(err)
			}
			dirs, err := e.Lower(t.Context(), img, "c1")
			if err != nil {
				t.Fatal(err)
			}
			if len(dirs) != 3 {
				t.Fatalf("lower dirs: %v", dirs)
			}
			if diff := cmp.Diff([]string{"true"}, img.Config.Config.Cmd); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func layoutOf(b imagetest.Blobs) []byte {
	desc := b.Manifest
	desc.Annotations = map[string]string{"io.containerd.image.name": "docker.io/library/test:1"}
	return b.Layout(desc)
}

func TestLoadWithoutName(t *testing.T) {
	e := open(t, remote.Options{})
	out := load(t, e, imagetest.Archive(small()))
	id, ok := strings.CutPrefix(strings.TrimSpace(out), "Loaded image ID: ")
	if !ok {
		t.Fatalf("output %q", out)
	}
	list, err := e.List(t.Context(), image.ListOptions{Filters: filter.Args{"dangling": {"true"}}})
	if err != nil || len(list) != 1 || list[0].ID != id || len(list[0].RepoTags) != 0 {
		t.Errorf("dangling images: %+v, %v", list, err)
	}
}

func TestGet(t *testing.T) {
	e := open(t, remote.Options{})
	load(t, e, imagetest.Archive(small("test:1")))
	img, err := e.Get(t.Context(), "test:1")
	if err != nil {
		t.Fatal(err)
	}
	hex := img.ID.Encoded()
	for _, ref := range []string{
		"test:1", "library/test:1", "docker.io/library/test:1", hex, "sha256:" + hex, hex[:12], "sha256:" + hex[:8],
		"test@sha256:" + hex, "test:1@sha256:" + hex,
	} {
		got, err := e.Get(t.Context(), ref)
		if err != nil || got.ID != img.ID {
			t.Errorf("Get(%q): %v, %v", ref, got, err)
		}
	}
	for ref, want := range map[string]string{
		"test": "No such image: test:latest", "nosuch:3": "No such image: nosuch:3", "other@sha256:" + hex: "No such image: other@sha256:" + hex,
	} {
		if _, err := e.Get(t.Context(), ref); !errdefs.IsNotFound(err) || err.Error() != want {
			t.Errorf("Get(%q): %v, want %q", ref, err, want)
		}
	}
	if _, err := e.Get(t.Context(), "Upper"); !errdefs.IsInvalidArgument(err) || err.Error() != "invalid reference format" {
		t.Errorf("bad name: %v", err)
	}
}

func TestTagAndRemove(t *testing.T) {
	e := open(t, remote.Options{})
	load(t, e, imagetest.Archive(small("test:1")))
	img, err := e.Get(t.Context(), "test:1")
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Tag(t.Context(), "test:1", "copy"); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Remove(t.Context(), img.ID.Encoded()[:12], image.RemoveOptions{}); err == nil ||
		err.Error() != "conflict: unable to delete "+img.ID.Encoded()[:12]+" (must be forced) - image is referenced in multiple repositories" {
		t.Errorf("remove by ID: %v", err)
	}
	untagged, err := e.Remove(t.Context(), "test:1", image.RemoveOptions{})
	if err != nil || len(untagged) != 1 || untagged[0].Untagged != "test:1" {
		t.Errorf("untag: %v, %v", untagged, err)
	}
	e.Hold(img.ID, "0123456789abcdef", "web", true)
	if _, err := e.Remove(t.Context(), "copy", image.RemoveOptions{}); !errdefs.IsConflict(err) ||
		err.Error() != "conflict: unable to delete copy:latest (must be forced) - container 0123456789ab is using its referenced image "+img.ID.Encoded()[:12] {
		t.Errorf("remove used: %v", err)
	}
	if _, err := e.Remove(t.Context(), img.ID.String(), image.RemoveOptions{Force: true}); err == nil ||
		!strings.HasSuffix(err.Error(), "(cannot be forced) - image is being used by running container 0123456789ab") {
		t.Errorf("force remove of running: %v", err)
	}
	e.Unhold("0123456789abcdef")
	deleted, err := e.Remove(t.Context(), "copy", image.RemoveOptions{})
	if err != nil || len(deleted) != 2 || deleted[0].Untagged != "copy:latest" || deleted[1].Deleted != img.ID.String() {
		t.Errorf("remove: %v, %v", deleted, err)
	}
	if diff := cmp.Diff([]string{"load test:1", "tag copy:latest", "untag test:1", "untag copy:latest", "delete " + img.ID.String()}, e.events(t)); diff != "" {
		t.Error(diff)
	}
}

func TestForcedRemoveOfUsedKeepsDangling(t *testing.T) {
	e := open(t, remote.Options{})
	load(t, e, imagetest.Archive(small("test:1")))
	img, err := e.Get(t.Context(), "test:1")
	if err != nil {
		t.Fatal(err)
	}
	e.Hold(img.ID, "0123456789abcdef", "web", false)
	if _, err := e.Remove(t.Context(), "test:1", image.RemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	got, err := e.Get(t.Context(), img.ID.String())
	if err != nil || len(got.Names) != 0 {
		t.Errorf("image after forced untag: %+v, %v", got, err)
	}
}

func TestReplacedTagLeavesDangling(t *testing.T) {
	e := open(t, remote.Options{})
	load(t, e, imagetest.Archive(small("test:1")))
	old, err := e.Get(t.Context(), "test:1")
	if err != nil {
		t.Fatal(err)
	}
	next := small("test:1")
	next.Layers = next.Layers[:2]
	load(t, e, imagetest.Archive(next))
	got, err := e.Get(t.Context(), "test:1")
	if err != nil || got.ID == old.ID {
		t.Fatalf("tag was not replaced: %v", err)
	}
	if _, err := e.Get(t.Context(), old.ID.String()); err != nil {
		t.Error(err)
	}
	report, err := e.Prune(t.Context(), nil)
	if err != nil || len(report.ImagesDeleted) != 1 || report.ImagesDeleted[0].Deleted != old.ID.String() || report.SpaceReclaimed == 0 {
		t.Errorf("prune: %+v, %v", report, err)
	}
	if _, err := e.Get(t.Context(), "test:1"); err != nil {
		t.Error(err)
	}
}

func TestSaveAndLoad(t *testing.T) {
	e := open(t, remote.Options{})
	load(t, e, imagetest.Archive(small("test:1")))
	img, err := e.Get(t.Context(), "test:1")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, ref, want string }{
		{"by name", "test:1", "Loaded image: test:1\n"},
		{"by ID", img.ID.Encoded()[:12], "Loaded image ID: " + img.ID.String() + "\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var buf bytes.Buffer
			if err := e.Save(t.Context(), []string{tt.ref}, &buf); err != nil {
				t.Fatal(err)
			}
			other := open(t, remote.Options{})
			if diff := cmp.Diff(tt.want, load(t, other, buf.Bytes())); diff != "" {
				t.Error(diff)
			}
			if got, err := other.Get(t.Context(), img.ID.String()); err != nil || got.ChainID != img.ChainID {
				t.Errorf("loaded: %+v, %v", got, err)
			}
		})
	}
	if err := e.Save(t.Context(), []string{"nosuch"}, io.Discard); !errdefs.IsNotFound(err) {
		t.Errorf("save of nothing: %v", err)
	}
}

func TestImport(t *testing.T) {
	e := open(t, remote.Options{})
	id, err := e.Import(t.Context(), image.ImportOptions{
		Ref: "mine:1", Message: "made by hand",
		Changes: []string{`CMD ["/bin/sh"]`, "ENV A=1 B='two words'", "LABEL kind=mine", "EXPOSE 80-81 53/udp", "WORKDIR /srv", "entrypoint exec /bin/true",
			`HEALTHCHECK --interval=3s --retries=2 CMD ["look"]`, "ONBUILD RUN make"},
	}, bytes.NewReader(imagetest.Layer{"bin/sh": "#!"}.Tar()))
	if err != nil {
		t.Fatal(err)
	}
	got, err := e.Inspect(t.Context(), "mine:1")
	if err != nil {
		t.Fatal(err)
	}
	want := &dockerspec.DockerOCIImageConfig{ImageConfig: ocispec.ImageConfig{
		Cmd: []string{"/bin/sh"}, Env: []string{"A=1", "B=two words"}, Labels: map[string]string{"kind": "mine"},
		ExposedPorts: map[string]struct{}{"80/tcp": {}, "81/tcp": {}, "53/udp": {}}, WorkingDir: "/srv", Entrypoint: []string{"/bin/sh", "-c", "exec /bin/true"},
	}, DockerOCIImageConfigExt: dockerspec.DockerOCIImageConfigExt{
		Healthcheck: &dockerspec.HealthcheckConfig{Test: []string{"CMD", "look"}, Interval: 3 * time.Second, Retries: 2}, OnBuild: []string{"RUN make"},
	}}
	if diff := cmp.Diff(want, got.Config); diff != "" {
		t.Error(diff)
	}
	if got.ID != id.String() || got.Comment != "made by hand" || len(got.RootFS.Layers) != 1 || got.Size == 0 {
		t.Errorf("inspect: %+v", got)
	}
	for _, changes := range [][]string{{"RUN true"}, {"CMD"}, {"ENV =x"}, {"EXPOSE 70000"}, {"ONBUILD FROM x"}, {"ONBUILD ONBUILD RUN x"},
		{"HEALTHCHECK NONE x"}, {"HEALTHCHECK CMD"}, {"HEALTHCHECK x"}, {"HEALTHCHECK --interval=1us CMD x"}, {"HEALTHCHECK --retries=-1 CMD x"}, {"HEALTHCHECK --x=1 CMD x"}} {
		if _, err := e.Import(t.Context(), image.ImportOptions{Changes: changes}, strings.NewReader("")); !errdefs.IsInvalidArgument(err) {
			t.Errorf("changes %q: %v", changes, err)
		}
	}
	if _, err := e.Import(t.Context(), image.ImportOptions{}, strings.NewReader("")); !errdefs.IsInvalidArgument(err) {
		t.Errorf("empty import: %v", err)
	}
}

func TestListFilters(t *testing.T) {
	e := open(t, remote.Options{})
	older := small("older:1")
	older.Created = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	older.Config.Labels = map[string]string{"kind": "older"}
	load(t, e, imagetest.Archive(older, small("test:1", "test:2", "host:5000/a/b:latest")))
	for _, tt := range []struct {
		name    string
		filters filter.Args
		want    []string
	}{
		{"all, newest first", nil, []string{"test:1 test:2 host:5000/a/b:latest", "older:1"}},
		{"label", filter.Args{"label": {"kind=older"}}, []string{"older:1"}},
		{"label key", filter.Args{"label": {"kind"}}, []string{"test:1 test:2 host:5000/a/b:latest", "older:1"}},
		{"reference", filter.Args{"reference": {"test"}}, []string{"test:1 test:2"}},
		{"reference with tag", filter.Args{"reference": {"test:2"}}, []string{"test:2"}},
		{"reference pattern", filter.Args{"reference": {"t*:1", "older"}}, []string{"test:1", "older:1"}},
		{"before", filter.Args{"before": {"test:1"}}, []string{"older:1"}},
		{"since", filter.Args{"since": {"older:1"}}, []string{"test:1 test:2 host:5000/a/b:latest"}},
		{"until", filter.Args{"until": {"2021-01-01"}}, []string{"older:1"}},
		{"dangling", filter.Args{"dangling": {"true"}}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			list, err := e.List(t.Context(), image.ListOptions{Filters: tt.filters})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, summary := range list {
				got = append(got, strings.Join(summary.RepoTags, " "))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	if _, err := e.List(t.Context(), image.ListOptions{Filters: filter.Args{"nosuch": {"x"}}}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("unknown filter: %v", err)
	}
}

func TestHistory(t *testing.T) {
	e := open(t, remote.Options{})
	load(t, e, imagetest.Archive(small("test:1")))
	items, err := e.History(t.Context(), "test:1")
	if err != nil {
		t.Fatal(err)
	}
	if len(items) != 3 || items[0].ID == "<missing>" || items[2].ID != "<missing>" || items[0].CreatedBy != "imagetest" ||
		!cmp.Equal(items[0].Tags, []string{"test:1"}) {
		t.Errorf("history: %+v", items)
	}
}

func TestNamesSurviveRestart(t *testing.T) {
	root := t.TempDir()
	st, err := store.Open(t.Context(), root, nil)
	if err != nil {
		t.Fatal(err)
	}
	e := engine{Service: image.New(image.Options{Store: st}), store: st}
	load(t, e, imagetest.Archive(small("test:1")))
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	again := openAt(t, root, remote.Options{})
	img, err := again.Get(t.Context(), "test:1")
	if err != nil {
		t.Fatal(err)
	}
	if dirs, err := again.Lower(t.Context(), img, "c1"); err != nil || len(dirs) != 3 {
		t.Errorf("lower: %v, %v", dirs, err)
	}
}
