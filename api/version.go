package api

// VersionResponse answers GET /muelle/v1/version.
type VersionResponse struct {
	Version          string
	APIVersion       string `json:"ApiVersion"`
	MuelleAPIVersion int    `json:"MuelleApiVersion"`
}
