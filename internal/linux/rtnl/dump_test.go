package rtnl_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"muelle/internal/linux/rtnl"
)

func TestInterruptedListIsAskedForAgain(t *testing.T) {
	broken := errors.New("broken")
	for _, tt := range []struct {
		name        string
		interrupted int
		then        error
		want        []string
		wantErr     error
	}{
		{name: "at once", want: []string{"a", "b"}},
		{name: "changed meanwhile", interrupted: 3, want: []string{"a", "b"}},
		{name: "for ever", interrupted: 1 << 20, want: []string{"a"}, wantErr: netlink.ErrDumpInterrupted},
		{name: "something else", interrupted: 1, then: broken, wantErr: broken},
	} {
		asked := 0
		got, err := rtnl.Dump(func() ([]string, error) {
			switch asked++; {
			case asked <= tt.interrupted:
				return []string{"a"}, netlink.ErrDumpInterrupted
			case tt.then != nil:
				return nil, tt.then
			}
			return []string{"a", "b"}, nil
		})
		if diff := cmp.Diff(tt.want, got); diff != "" || !errors.Is(err, tt.wantErr) {
			t.Errorf("%s: %v %s", tt.name, err, diff)
		}
	}
}
