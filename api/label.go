package api

// Labels by which Docker Compose marks its objects. Muelle writes the same ones, so
// that either sees the other's projects.
const (
	LabelComposePrefix   = "com.docker.compose."
	LabelProject         = "com.docker.compose.project"
	LabelService         = "com.docker.compose.service"
	LabelConfigHash      = "com.docker.compose.config-hash"
	LabelContainerNumber = "com.docker.compose.container-number"
	LabelVolume          = "com.docker.compose.volume"
	LabelNetwork         = "com.docker.compose.network"
	LabelWorkingDir      = "com.docker.compose.project.working_dir"
	LabelConfigFiles     = "com.docker.compose.project.config_files"
	LabelEnvFile         = "com.docker.compose.project.environment_file"
	LabelOneOff          = "com.docker.compose.oneoff"
	LabelSlug            = "com.docker.compose.slug"
	LabelImage           = "com.docker.compose.image"
	LabelDependsOn       = "com.docker.compose.depends_on"
	LabelComposeVersion  = "com.docker.compose.version"
	LabelReplace         = "com.docker.compose.replace"

	// LabelAnonymous marks volumes that got no name from a user, as Docker does.
	LabelAnonymous = "com.docker.volume.anonymous"
)

// ComposeVersion is the Docker Compose whose hashes, labels and texts are followed.
const ComposeVersion = "5.5.1"

// LabelStandin in an image's configuration says that the image stands in for another
// one, and by what. Images built on it inherit it.
const LabelStandin = "io.muelle.standin"

// LabelPortNames holds what a container calls its ports, as "web=8080/tcp,dns=53/udp":
// lookups of SRV find them, as _web._tcp.NAME. Compose's ports have names.
const LabelPortNames = "io.muelle.ports"

// LabelDebug marks the container of a debug session, with the id of what is debugged: a
// container that does not run, or an image.
const LabelDebug = "io.muelle.debug"

// Labels that ask for a health check by the engine, of a container or an image. The
// first three hold one target each (see internal/probe); the others are those of
// Docker's health check, for images and clients that have no field for them.
const (
	LabelHealthPrefix        = "io.muelle.health."
	LabelHealthHTTP          = LabelHealthPrefix + "http"
	LabelHealthTCP           = LabelHealthPrefix + "tcp"
	LabelHealthGRPC          = LabelHealthPrefix + "grpc"
	LabelHealthInterval      = LabelHealthPrefix + "interval"
	LabelHealthTimeout       = LabelHealthPrefix + "timeout"
	LabelHealthRetries       = LabelHealthPrefix + "retries"
	LabelHealthStartPeriod   = LabelHealthPrefix + "start-period"
	LabelHealthStartInterval = LabelHealthPrefix + "start-interval"
	// LabelComposeHealth is the digest of a service's x-health.
	LabelComposeHealth   = "io.muelle.compose.x-health"
	LabelHealthOnFailure = LabelHealthPrefix + "on-failure"
)
