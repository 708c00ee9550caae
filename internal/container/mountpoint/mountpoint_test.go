package mountpoint_test

import (
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	ctypes "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"

	"muelle/internal/container/mountpoint"
)

func TestParseBind(t *testing.T) {
	tests := []struct {
		name, in string
		want     mountpoint.Mount
		err      string
	}{
		{name: "bind", in: "/a:/b", want: mountpoint.Mount{Type: "bind", Source: "/a", Destination: "/b", RW: true, Propagation: "rprivate", CreateSource: true}},
		{name: "read-only", in: "/a/:/b/:ro,z", want: mountpoint.Mount{Type: "bind", Source: "/a", Destination: "/b", Mode: "ro,z", Propagation: "rprivate", CreateSource: true}},
		{name: "propagation", in: "/a:/b:rshared", want: mountpoint.Mount{Type: "bind", Source: "/a", Destination: "/b", Mode: "rshared", RW: true, Propagation: "rshared", CreateSource: true}},
		{name: "volume", in: "data:/b", want: mountpoint.Mount{Type: "volume", Name: "data", Destination: "/b", RW: true}},
		{name: "volume nocopy", in: "data:/b:nocopy,ro", want: mountpoint.Mount{Type: "volume", Name: "data", Destination: "/b", Mode: "nocopy,ro", NoCopy: true}},
		{name: "anonymous", in: "/b", want: mountpoint.Mount{Type: "volume", Destination: "/b", RW: true, Anonymous: true}},
		{name: "mode without destination", in: "/b:ro", err: "invalid volume specification: '/b:ro'"},
		{name: "root", in: "/a:/", err: "invalid volume specification: '/a:/': invalid specification: destination can't be '/'"},
		{name: "relative", in: "/a:b", err: "invalid volume specification: '/a:b': invalid mount path: 'b' mount path must be absolute"},
		{name: "mode", in: "/a:/b:nope", err: "invalid volume specification: '/a:/b:nope': invalid mode: nope"},
		{name: "twice", in: "/a:/b:ro,rw", err: "invalid volume specification: '/a:/b:ro,rw': invalid mode: ro,rw"},
		{name: "too many", in: "/a:/b:ro:x", err: "invalid volume specification: '/a:/b:ro:x'"},
		{name: "nocopy of a bind", in: "/a:/b:nocopy", err: "invalid volume specification: '/a:/b:nocopy': invalid mode: nocopy"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := mountpoint.ParseBind(tt.in, "")
			if tt.err != "" {
				if err == nil || err.Error() != tt.err || !errdefs.IsInvalidArgument(err) {
					t.Fatalf("got error %v, want %s", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestPrecedence(t *testing.T) {
	cfg := &ctypes.Config{Volumes: map[string]struct{}{"/img": {}, "/bound": {}, "/tmpfs": {}}}
	hc := &ctypes.HostConfig{
		VolumesFrom: []string{"other:ro"}, Binds: []string{"/host:/bound"},
		Mounts: []mount.Mount{{Type: "tmpfs", Target: "/mem", TmpfsOptions: &mount.TmpfsOptions{SizeBytes: 1 << 20, Mode: 0o1777}}},
		Tmpfs:  map[string]string{"/tmpfs": "size=1m,exec"},
	}
	got, err := mountpoint.ParseAll(cfg, hc, func(string) ([]mountpoint.Mount, error) {
		return []mountpoint.Mount{
			{Type: "volume", Name: "v", Destination: "/from", RW: true},
			{Type: "volume", Name: "w", Destination: "/bound", RW: true},
		}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, m := range got {
		rw := "ro"
		if m.RW {
			rw = "rw"
		}
		name := m.Name
		if m.Anonymous {
			name = "anonymous"
		}
		list = append(list, strings.Join([]string{string(m.Type), name, m.Source, m.Destination, rw, strings.Join(m.TmpfsOptions, ",")}, " "))
	}
	want := []string{
		"volume v  /from ro ", "bind  /host /bound rw ",
		"tmpfs   /mem rw noexec,nosuid,nodev,rprivate,mode=1777,size=1048576", "volume anonymous  /img rw ",
	}
	if d := cmp.Diff(want, list); d != "" {
		t.Error(d)
	}
	hc.Binds = append(hc.Binds, "/x:/mem")
	if _, err := mountpoint.ParseAll(cfg, hc, func(string) ([]mountpoint.Mount, error) { return nil, nil }); err == nil || err.Error() != "Duplicate mount point: /mem" {
		t.Errorf("got %v", err)
	}
}

func FuzzParseBind(f *testing.F) {
	for _, s := range []string{"/a:/b", "v:/b:ro,z", "/b", "::", "/a:/b:nocopy,rshared", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		m, err := mountpoint.ParseBind(s, "")
		if err != nil {
			if !errdefs.IsInvalidArgument(err) {
				t.Errorf("class of %v", err)
			}
			return
		}
		if !strings.HasPrefix(m.Destination, "/") || m.Destination == "/" || m.Type == mount.TypeBind && !strings.HasPrefix(m.Source, "/") {
			t.Errorf("%q gives %+v", s, m)
		}
	})
}
