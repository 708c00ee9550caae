package volume_test

import (
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	wire "github.com/moby/moby/api/types/volume"
)

func TestOptionsAreCheckedWhenAVolumeIsMade(t *testing.T) {
	type options = map[string]string
	for _, tt := range []struct {
		name string
		in   options
		want string // part of the error; empty: taken
	}{
		{"bind", options{"type": "none", "device": "/srv", "o": "bind,ro"}, ""},
		{"bind by its type", options{"type": "bind", "device": "/srv"}, ""},
		{"tmpfs", options{"type": "tmpfs", "device": "tmpfs", "o": "size=100m,uid=1000"}, ""},
		{"nfs", options{"type": "nfs", "device": ":/export", "o": "addr=10.0.0.1,nfsvers=4,soft"}, ""},
		{"what fstab has", options{"type": "none", "device": "/srv", "o": "bind,_netdev,nofail,x-systemd.automount"}, ""},
		{"unknown option", options{"type": "none", "device": "/srv", "o": "bind", "uid": "5"}, `create vv: invalid option: "uid"`},
		{"no device", options{"type": "tmpfs"}, `missing required option: "device"`},
		{"no type", options{"device": "/srv", "o": "bind"}, `missing required option: "type"`},
		{"quota", options{"size": "10G"}, "quota size requested but no quota support"},
		{"nothing to mount", options{"type": "none", "device": "/srv"}, "type=none needs o=bind"},
		{"relative bind", options{"type": "none", "device": "srv", "o": "bind"}, "a bind mount needs an absolute path"},
		{"option of a bind", options{"type": "none", "device": "/srv", "o": "bind,size=5m"}, `invalid mount option "size=5m"`},
		{"path as a type", options{"type": "../ext4", "device": "/dev/x"}, "invalid file system type"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := open(t, t.TempDir())
			v, err := s.Create(t.Context(), wire.CreateRequest{Name: "vv", DriverOpts: tt.in})
			if tt.want != "" {
				if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("got %v, want %q", err, tt.want)
				}
				return
			}
			if err != nil || len(v.Options) != len(tt.in) {
				t.Errorf("got %+v, %v", v, err)
			}
		})
	}
}

func TestOtherOptionsOfAVolumeThatExists(t *testing.T) {
	s := open(t, t.TempDir())
	make := func(o map[string]string) error {
		_, err := s.Create(t.Context(), wire.CreateRequest{Name: "vv", DriverOpts: o})
		return err
	}
	if err := make(map[string]string{"type": "tmpfs", "device": "tmpfs"}); err != nil {
		t.Fatal(err)
	}
	if err := make(nil); err != nil {
		t.Error(err)
	}
	if err := make(map[string]string{"type": "tmpfs", "device": "tmpfs"}); err != nil {
		t.Error(err)
	}
	if err := make(map[string]string{"type": "none", "device": "/srv", "o": "bind"}); !errdefs.IsConflict(err) || !strings.Contains(err.Error(), "device=tmpfs type=tmpfs") {
		t.Errorf("got %v", err)
	}
}
