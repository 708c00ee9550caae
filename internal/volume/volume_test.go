package volume_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	wire "github.com/moby/moby/api/types/volume"

	"muelle/internal/event"
	"muelle/internal/filter"
	"muelle/internal/volume"
)

func open(t *testing.T, root string) *volume.Service {
	t.Helper()
	s, problems := volume.Open(root, event.NewBus(16))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return s
}

func names(t *testing.T, s *volume.Service, f filter.Args) []string {
	t.Helper()
	list, err := s.List(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	out := []string{}
	for _, v := range list {
		out = append(out, v.Name)
	}
	return out
}

func TestVolumeOutlivesTheService(t *testing.T) {
	root := t.TempDir()
	s := open(t, root)
	v, err := s.Create(t.Context(), wire.CreateRequest{Name: "data", Labels: map[string]string{"a": "1"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(v.Mountpoint, "f"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	again, err := open(t, root).Get(t.Context(), "data")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(v, again); diff != "" {
		t.Error(diff)
	}
	if v.Mountpoint != filepath.Join(root, "data", "_data") {
		t.Errorf("mount point %s", v.Mountpoint)
	}
}

func TestCreateTwiceGivesTheSame(t *testing.T) {
	s := open(t, t.TempDir())
	a, _ := s.Create(t.Context(), wire.CreateRequest{Name: "data"})
	b, err := s.Create(t.Context(), wire.CreateRequest{Name: "data"})
	if err != nil || a.Mountpoint != b.Mountpoint {
		t.Errorf("%v %v %v", a, b, err)
	}
}

func TestBadRequests(t *testing.T) {
	s := open(t, t.TempDir())
	for name, tt := range map[string]struct {
		in   wire.CreateRequest
		want func(error) bool
	}{
		"relative path":  {wire.CreateRequest{Name: "./x"}, errdefs.IsInvalidArgument},
		"climbing":       {wire.CreateRequest{Name: "../x"}, errdefs.IsInvalidArgument},
		"long name":      {wire.CreateRequest{Name: strings.Repeat("x", 256)}, errdefs.IsInvalidArgument},
		"unknown driver": {wire.CreateRequest{Name: "xx", Driver: "nope"}, errdefs.IsNotFound},
		"no device":      {wire.CreateRequest{Name: "xx", DriverOpts: map[string]string{"type": "nfs"}}, errdefs.IsInvalidArgument},
	} {
		if _, err := s.Create(t.Context(), tt.in); !tt.want(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := names(t, s, nil); len(got) != 0 {
		t.Errorf("left: %v", got)
	}
}

func TestHeldVolumesStay(t *testing.T) {
	s := open(t, t.TempDir())
	if _, err := s.Acquire(t.Context(), "data", "c1"); err != nil {
		t.Fatal(err)
	}
	anonymous, err := s.Acquire(t.Context(), "", "c1")
	if err != nil {
		t.Fatal(err)
	}
	err = s.Remove(t.Context(), "data", true)
	if !errdefs.IsConflict(err) || !strings.Contains(err.Error(), "volume is in use - [c1]") {
		t.Errorf("remove of a held volume: %v", err)
	}
	if r, err := s.Prune(t.Context(), filter.Args{"all": {"1"}}); err != nil || len(r.VolumesDeleted) != 0 {
		t.Errorf("prune removed %v, %v", r, err)
	}
	s.Release(t.Context(), "data", "c1")
	s.Release(t.Context(), anonymous.Name, "c1")
	r, err := s.Prune(t.Context(), nil)
	if diff := cmp.Diff([]string{anonymous.Name}, r.VolumesDeleted); err != nil || diff != "" {
		t.Errorf("prune: %v %s", err, diff)
	}
	if err := s.Remove(t.Context(), "data", false); err != nil {
		t.Error(err)
	}
	if err := s.Remove(t.Context(), "data", false); !errdefs.IsNotFound(err) {
		t.Errorf("second remove: %v", err)
	}
	if err := s.Remove(t.Context(), "data", true); err != nil {
		t.Errorf("forced remove of nothing: %v", err)
	}
}

func TestListFilters(t *testing.T) {
	s := open(t, t.TempDir())
	s.Create(t.Context(), wire.CreateRequest{Name: "aa", Labels: map[string]string{"tier": "front"}})
	s.Create(t.Context(), wire.CreateRequest{Name: "bb"})
	s.Acquire(t.Context(), "bb", "c")
	for _, tt := range []struct {
		in   filter.Args
		want []string
	}{
		{nil, []string{"aa", "bb"}},
		{filter.Args{"name": {"a"}}, []string{"aa"}},
		{filter.Args{"label": {"tier=front"}}, []string{"aa"}},
		{filter.Args{"dangling": {"true"}}, []string{"aa"}},
		{filter.Args{"dangling": {"false"}}, []string{"bb"}},
		{filter.Args{"driver": {"nfs"}}, []string{}},
	} {
		if diff := cmp.Diff(tt.want, names(t, s, tt.in)); diff != "" {
			t.Errorf("%v: %s", tt.in, diff)
		}
	}
	if _, err := s.List(t.Context(), filter.Args{"bogus": {"1"}}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("unknown filter: %v", err)
	}
}

func TestInterruptedWorkIsFinished(t *testing.T) {
	root := t.TempDir()
	for _, dir := range []string{".removed-abc/_data/x", "halfmade/_data", "foreign/_data/precious"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// A record being written, and content being copied up.
	if err := os.WriteFile(filepath.Join(root, "halfmade/.tmp-volume.json-5"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(root, "halfmade/_data.copy/x"), 0o755); err != nil {
		t.Fatal(err)
	}
	_, problems := volume.Open(root, event.NewBus(1))
	if len(problems) != 1 || !strings.Contains(problems[0].Error(), "foreign") {
		t.Errorf("problems %v, want one about foreign", problems)
	}
	entries, _ := os.ReadDir(root)
	left := []string{}
	for _, e := range entries {
		left = append(left, e.Name())
	}
	if diff := cmp.Diff([]string{"foreign"}, left); diff != "" {
		t.Error(diff)
	}
}

func TestEventsAndUsage(t *testing.T) {
	bus := event.NewBus(16)
	s, _ := volume.Open(t.TempDir(), bus)
	begin := time.Now()
	v, _ := s.Create(t.Context(), wire.CreateRequest{Name: "data"})
	os.WriteFile(filepath.Join(v.Mountpoint, "f"), make([]byte, 10_000), 0o600)
	os.Link(filepath.Join(v.Mountpoint, "f"), filepath.Join(v.Mountpoint, "g"))
	list, err := s.Usage(t.Context())
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	if size := list[0].UsageData.Size; size < 10_000 || size > 20_000 {
		t.Errorf("%d bytes: the hard link must count once", size)
	}
	s.Remove(t.Context(), "data", false)
	var actions []string
	for m := range bus.Subscribe(t.Context(), begin, time.Now(), nil) {
		actions = append(actions, string(m.Action))
	}
	if !slices.Equal(actions, []string{"create", "destroy"}) {
		t.Errorf("events %v", actions)
	}
}
