package api

// CheckReport answers POST /muelle/v1/system/check.
type CheckReport struct {
	Findings []Finding
	// Notes are what is not as it should be and mends itself, as Remedy says.
	Notes []Finding `json:",omitempty"`
	// Blobs is how many blobs of images were read and compared with their digest.
	Blobs int
}

// Finding is one thing that is not as it should be.
type Finding struct {
	// Kind is what it is: "container folder", "volume folder", "run folder", "mount",
	// "cgroup", "process", "interface", "firewall rules", "blob", "layer", "record",
	// "build folder", "firewall of others".
	Kind, Name string
	Problem    string
	// Remedy is what to do where it was not mended, or after that.
	Remedy string `json:",omitempty"`
	// Mendable: --repair can do it. Mended: it has.
	Mendable, Mended bool
	// Error is why mending failed.
	Error string `json:",omitempty"`
}
