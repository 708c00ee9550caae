package api

// DiskUsage answers GET /muelle/v1/system/df: what everything below the engine's
// data-root occupies, in rows whose sizes add up to Total, which is what
// `du -sx DATA-ROOT` says. Sizes are in bytes.
type DiskUsage struct {
	DataRoot string
	Total    int64
	Rows     []DiskUsageRow
}

// DiskUsageRow is one kind of thing.
type DiskUsageRow struct {
	Kind string
	// What the kind holds, in a few words; empty for Docker's four.
	Note string `json:",omitempty"`
	// Count and Active are zero where there is nothing to count.
	Count, Active     int64
	Size, Reclaimable int64
	// Docker tells that `docker system df` has this row too.
	Docker bool
}
