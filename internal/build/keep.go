package build

import (
	"fmt"
	"time"

	"github.com/moby/buildkit/client"
	"golang.org/x/sys/unix"
)

const gigabyte = 1 << 30

// Keep says what of the build cache is removed without anybody asking, after a build
// and when the builder is opened, at most once a minute.
type Keep struct {
	// Never removes nothing.
	Never bool
	// Reserved bytes are always kept, MaxUsed at most, and MinFree are to be free on the
	// disk; those that are 0 in all rules are chosen by the disk's size. The rules take
	// them where they have none.
	Reserved, MaxUsed, MinFree int64
	// Rules replace those of Muelle, which are BuildKit's: they are applied in order.
	Rules []PruneOptions
}

// Check refuses rules that cannot be read.
func (k Keep) Check() error {
	_, err := k.rules()
	return err
}

func (k Keep) rules() ([]client.PruneInfo, error) {
	var out []client.PruneInfo
	for n, r := range k.Rules {
		if r.ReservedSpace == 0 {
			r.ReservedSpace = k.Reserved
		}
		if r.MaxUsedSpace == 0 {
			r.MaxUsedSpace = k.MaxUsed
		}
		if r.MinFreeSpace == 0 {
			r.MinFreeSpace = k.MinFree
		}
		info, err := pruneInfo(r, time.Now())
		if err != nil {
			return nil, fmt.Errorf("rule %d of the build cache: %w", n, err)
		}
		out = append(out, info)
	}
	return out, nil
}

// policy gives the rules for a cache in root. Those of Muelle: sources of contexts and
// cache mounts that were not used for two days go first, then everything unused for
// two months, then whatever exceeds a share of the disk.
func (k Keep) policy(root string) ([]client.PruneInfo, error) {
	if k.Never {
		return nil, nil
	}
	if k.Rules != nil {
		return k.rules()
	}
	reserved, most := k.Reserved, k.MaxUsed
	if k.Reserved == 0 && k.MaxUsed == 0 && k.MinFree == 0 {
		most = int64(20 * gigabyte)
		var st unix.Statfs_t
		if err := unix.Statfs(root, &st); err == nil {
			most = min(max(int64(st.Blocks)*st.Bsize*6/10, 2*gigabyte), 100*gigabyte)
		}
		reserved = min(most/5, 10*gigabyte)
	}
	limits := client.PruneInfo{ReservedSpace: reserved, MaxUsedSpace: most, MinFreeSpace: k.MinFree}
	old, all := limits, limits
	old.KeepDuration, all.All = 60*24*time.Hour, true
	return []client.PruneInfo{
		{
			// Each is an alternative; what stands in one text, with commas, must hold together.
			Filter:       []string{"type==source.local", "type==exec.cachemount", "type==source.git.checkout"},
			KeepDuration: 48 * time.Hour, MaxUsedSpace: 512 << 20,
		},
		old, limits, all,
	}, nil
}
