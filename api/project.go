package api

import (
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
)

// ProjectSpecVersion is the version of the document below. A daemon refuses a
// newer one and names both.
const ProjectSpecVersion = 1

// ProjectSpec is a Compose project with everything resolved that lies on the
// client's side: files, extends, include, interpolation, env_file, the names and
// digests of built images. It is the body of POST /muelle/v1/projects/NAME/up. No
// path in it is read by the daemon, bind mounts excepted.
type ProjectSpec struct {
	Version     int
	Name        string
	WorkingDir  string   // for the labels only
	ConfigFiles []string // for the labels only
	EnvFiles    []string // for the labels only
	Services    []ProjectService
	// Disabled are services that the files declare and no active profile selects:
	// their containers are no orphans.
	Disabled []string `json:",omitempty"`
	Networks []ProjectNetwork
	Volumes  []ProjectVolume
	// Expect are the sentences of x-expect, which must hold.
	Expect []string `json:",omitempty"`
}

// ProjectService is one service, in Docker's own terms. Config.Labels holds the
// user's labels; those of Compose are added by the daemon per container.
type ProjectService struct {
	Name          string
	ContainerName string // empty: PROJECT-SERVICE-NUMBER
	Scale         int
	// ConfigHash is Docker Compose's hash of the service: equal hashes mean that an
	// existing container need not be recreated.
	ConfigHash string
	// HashTemplate is set instead where the hash covers the ids of other services'
	// containers (network_mode, ipc, pid: service:NAME; volumes_from): the document to
	// hash, in which the daemon replaces ServiceRef(NAME) by the id of that service's
	// first container.
	HashTemplate string `json:",omitempty"`
	// PullPolicy is "always", "missing", "never" or "build" (made by the client).
	PullPolicy string
	Platform   string
	Config     *container.Config
	HostConfig *container.HostConfig
	// Endpoints by the key of ProjectNetwork; empty with HostConfig.NetworkMode set
	// to none, host, service:NAME or container:NAME. NetworkMode holds the key of the
	// main one. The daemon adds the container's name to the aliases. IpcMode, PidMode
	// and VolumesFrom may name services too.
	Endpoints map[string]*network.EndpointSettings
	DependsOn map[string]ProjectDependency
	// StopGracePeriod bounds a stop; zero means Docker's ten seconds.
	StopGracePeriod time.Duration
}

// ServiceRef stands in a HashTemplate for the id of the first container of a service.
func ServiceRef(service string) string { return "\x00" + service + "\x00" }

// ProjectDependency is one edge of depends_on.
type ProjectDependency struct {
	// Condition is service_started, service_healthy or service_completed_successfully.
	Condition string
	Required  bool
	Restart   bool
}

// ProjectNetwork is one network of the project. Key is its name in the file, Name
// the one in the engine; External means that it must exist.
type ProjectNetwork struct {
	Key, Name  string
	External   bool
	ConfigHash string
	Create     network.CreateRequest
	// Zone is x-zone, or nil. It is no part of the hash: a change takes effect without
	// making the network anew.
	Zone *Zone `json:",omitempty"`
}

// ProjectVolume is one named volume.
type ProjectVolume struct {
	Key, Name  string
	External   bool
	ConfigHash string
	Driver     string
	DriverOpts map[string]string
	Labels     map[string]string
}

// ProjectUpOptions travel beside the document.
type ProjectUpOptions struct {
	Services      []string // empty: all; dependencies come along unless NoDeps
	NoDeps        bool
	NoStart       bool
	ForceRecreate bool
	// RecreateDeps extends ForceRecreate to dependencies of the named services.
	RecreateDeps  bool
	NoRecreate    bool
	RemoveOrphans bool
	IgnoreOrphans bool
	// Wait until services are running or healthy, at most WaitTimeout (0: no bound).
	Wait        bool
	WaitTimeout time.Duration
	// Timeout in seconds for stopping containers that are recreated; nil: their own.
	Timeout          *int
	RenewAnonVolumes bool
}

// ProjectUpRequest is the body of POST /muelle/v1/projects/NAME/up.
type ProjectUpRequest struct {
	Spec    ProjectSpec
	Options ProjectUpOptions
}

// ProjectDownOptions is the body of POST /muelle/v1/projects/NAME/down. Services
// restricts it to the named ones (then networks and volumes stay).
type ProjectDownOptions struct {
	Services []string
	// Known are the services that the client's files declare: containers of others are
	// orphans. Nil when the client has no files; then every service is known.
	Known         []string
	Volumes       bool
	RemoveOrphans bool
	Timeout       *int
}

// ProjectActionOptions is the body of POST /muelle/v1/projects/NAME/{start,stop,restart}.
type ProjectActionOptions struct {
	Services []string
	NoDeps   bool
	Timeout  *int
	// Wait (start only) until services are running or healthy, at most WaitTimeout.
	Wait        bool
	WaitTimeout time.Duration
}

// ProjectSummary is one line of GET /muelle/v1/projects.
type ProjectSummary struct {
	Name string
	// Status is Docker Compose's: "running(2), exited(1)".
	Status      string
	WorkingDir  string
	ConfigFiles []string
	Services    []string
}

// Reserved identifiers and words of ProjectProgress.
const (
	// ProgressCreated is the ID of the line that says: every container of this up
	// exists now, the start begins.
	ProgressCreated = "created"
	// ProgressFailure is the ID of the line before the last when the call fails of the
	// project's own rules (a gate, a missing external network) rather than of the
	// engine: Error is the text to show as it stands.
	ProgressFailure = "failure"
	// ProgressWarning is the ID of a line whose Status is a warning for the user.
	ProgressWarning = "warning"
)

// ProjectProgress is one line of the NDJSON answer of the calls above. ID names
// the object as Docker Compose prints it ("Network zones_public_net", "Container
// zones-app-1"), Status is its word ("Creating", "Created", "Starting", "Started",
// "Waiting", "Healthy", "Stopping", …). The last line has Done, with Error when
// the call failed.
type ProjectProgress struct {
	ID     string `json:",omitempty"`
	Status string `json:",omitempty"`
	Error  string `json:",omitempty"`
	// Finished says that this object needs no more work.
	Finished bool `json:",omitempty"`
	Done     bool `json:",omitempty"`
	// Code is the error's HTTP status, on the last line only.
	Code int `json:",omitempty"`
}
