package main

import (
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"

	"muelle/internal/build"
	"muelle/internal/filter"
)

func TestBuilder(t *testing.T) {
	for _, tt := range []struct {
		name, file string
		want       build.Keep
		noHost     bool
	}{
		{"nothing", `{}`, build.Keep{}, false},
		{"off", `{"builder":{"gc":{"enabled":false}}}`, build.Keep{Never: true}, false},
		{"20.10", `{"builder":{"gc":{"enabled":true,"defaultKeepStorage":"20GB","policy":[{"keepStorage":"10GB","filter":["unused-for=2200h"]},{"keepStorage":"50MB","all":true}]},"entitlements":{"network-host":false}}}`,
			build.Keep{Reserved: 20 << 30, Rules: []build.PruneOptions{
				{ReservedSpace: 10 << 30, Filters: filter.Args{"unused-for": {"2200h"}}}, {ReservedSpace: 50 << 20, All: true},
			}}, true},
		{"28", `{"builder":{"gc":{"defaultReservedSpace":"1GB","defaultMaxUsedSpace":"2GB","defaultMinFreeSpace":"3GB","policy":[{"maxUsedSpace":"5MB","minFreeSpace":"6MB","reservedSpace":"4MB","filter":{"type":{"exec.cachemount":true}}}]}}}`,
			build.Keep{Reserved: 1 << 30, MaxUsed: 2 << 30, MinFree: 3 << 30, Rules: []build.PruneOptions{
				{ReservedSpace: 4 << 20, MaxUsedSpace: 5 << 20, MinFreeSpace: 6 << 20, Filters: filter.Args{"type": {"exec.cachemount"}}},
			}}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := parse([]string{"--config-file", configFile(t, tt.file)}, io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, c.Builder.keep()); d != "" {
				t.Error(d)
			}
			if got := c.Builder.noHostNetwork(); got != tt.noHost {
				t.Errorf("host network refused: %v", got)
			}
		})
	}
}
