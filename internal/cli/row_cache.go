package cli

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/build"

	"muelle/internal/console"
)

func cacheHeaders() map[string]string {
	return map[string]string{"ID": "CACHE ID", "Parent": "PARENT", "CacheType": "CACHE TYPE", "Size": titleSize, "CreatedSince": titleCreated,
		"LastUsedSince": "LAST USED", "UsageCount": "USAGE", "InUse": "IN USE", "Shared": "SHARED", "Description": "DESCRIPTION"}
}

// sortCache orders records by their last use, the never used first.
func sortCache(all []build.CacheRecord) {
	slices.SortFunc(all, func(a, b build.CacheRecord) int {
		switch {
		case a.LastUsedAt == nil && b.LastUsedAt == nil, a.LastUsedAt != nil && b.LastUsedAt != nil && a.LastUsedAt.Equal(*b.LastUsedAt):
			return strings.Compare(a.ID, b.ID)
		case a.LastUsedAt == nil:
			return -1
		case b.LastUsedAt == nil:
			return 1
		}
		return a.LastUsedAt.Compare(*b.LastUsedAt)
	})
}

type cacheRow struct {
	trunc bool
	c     build.CacheRecord
}

func (r *cacheRow) MarshalJSON() ([]byte, error) { return console.MarshalRow(r) }

// ID is the record's id, starred while it is in use.
func (r *cacheRow) ID() string {
	id := shorten(r.c.ID, r.trunc)
	if r.c.InUse {
		id += "*"
	}
	return id
}

// Parent are the parents' ids.
func (r *cacheRow) Parent() string {
	p := strings.Join(r.c.Parents, ", ")
	return shorten(p, r.trunc)
}

// CacheType is regular, source.local …
func (r *cacheRow) CacheType() string { return r.c.Type }

// Description is the step.
func (r *cacheRow) Description() string { return r.c.Description }

// Size is what it holds.
func (r *cacheRow) Size() string { return size3(r.c.Size) }

// CreatedAt is the time of creation.
func (r *cacheRow) CreatedAt() string { return r.c.CreatedAt.String() }

// CreatedSince is the age.
func (r *cacheRow) CreatedSince() string { return console.HumanAge(r.c.CreatedAt) }

// LastUsedAt is the time of the last use.
func (r *cacheRow) LastUsedAt() string {
	if r.c.LastUsedAt == nil {
		return ""
	}
	return r.c.LastUsedAt.String()
}

// LastUsedSince is how long ago that was.
func (r *cacheRow) LastUsedSince() string {
	if r.c.LastUsedAt == nil {
		return ""
	}
	return console.HumanDuration(time.Since(*r.c.LastUsedAt)) + " ago"
}

// UsageCount counts the uses.
func (r *cacheRow) UsageCount() string { return strconv.Itoa(r.c.UsageCount) }

// InUse says whether a build uses it now.
func (r *cacheRow) InUse() string { return strconv.FormatBool(r.c.InUse) }

// Shared says whether others share its bytes.
func (r *cacheRow) Shared() string { return strconv.FormatBool(r.c.Shared) }
