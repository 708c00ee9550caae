package build_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/client"

	"muelle/internal/build"
	"muelle/internal/filter"
)

func TestKeep(t *testing.T) {
	sources := client.PruneInfo{
		Filter:       []string{"type==source.local", "type==exec.cachemount", "type==source.git.checkout"},
		KeepDuration: 48 * time.Hour, MaxUsedSpace: 512 << 20,
	}
	for _, tt := range []struct {
		name string
		keep build.Keep
		want []client.PruneInfo
	}{
		{"never", build.Keep{Never: true, MaxUsed: 1}, nil},
		{"limits", build.Keep{Reserved: 1, MaxUsed: 2, MinFree: 3}, []client.PruneInfo{
			sources,
			{KeepDuration: 60 * 24 * time.Hour, ReservedSpace: 1, MaxUsedSpace: 2, MinFreeSpace: 3},
			{ReservedSpace: 1, MaxUsedSpace: 2, MinFreeSpace: 3},
			{All: true, ReservedSpace: 1, MaxUsedSpace: 2, MinFreeSpace: 3},
		}},
		{"rules", build.Keep{Reserved: 1, MinFree: 3, Rules: []build.PruneOptions{
			{All: true, ReservedSpace: 9, Filters: filter.Args{"unused-for": {"48h"}, "type": {"regular"}}}, {MaxUsedSpace: 8},
		}}, []client.PruneInfo{
			{All: true, ReservedSpace: 9, MinFreeSpace: 3, KeepDuration: 48 * time.Hour, Filter: []string{"type==regular"}},
			{ReservedSpace: 1, MaxUsedSpace: 8, MinFreeSpace: 3},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.keep.Policy(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Error(d)
			}
		})
	}
	for _, unknown := range []string{"age", "label"} {
		if err := (build.Keep{Rules: []build.PruneOptions{{Filters: filter.Args{unknown: {"1h"}}}}}).Check(); err == nil {
			t.Errorf("the filter %s, which no record has, is taken", unknown)
		}
	}
}
