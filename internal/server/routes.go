package server

import "net/http"

const (
	get    = http.MethodGet
	head   = http.MethodHead
	post   = http.MethodPost
	put    = http.MethodPut
	remove = http.MethodDelete
)

// table is every endpoint. Within one method and first path element, the first
// pattern that matches counts.
func (s *Server) table() []route {
	t := append(unsupported(), []route{
		{get, "/_ping", s.ping},
		{head, "/_ping", s.ping},
		{get, "/version", s.version},
		{get, "/info", s.info},
		{get, "/events", s.events},
		{get, "/metrics", s.metrics},
		{get, "/system/df", s.diskUsage},
		{post, "/auth", s.auth},

		{get, "/containers/json", s.listContainers},
		{post, "/containers/create", s.createContainer},
		{post, "/containers/prune", s.pruneContainers},
		{get, "/containers/{name}/json", s.inspectContainer},
		{get, "/containers/{name}/top", s.topContainer},
		{get, "/containers/{name}/logs", s.containerLogs},
		{get, "/containers/{name}/stats", s.containerStats},
		{get, "/containers/{name}/changes", s.containerChanges},
		{get, "/containers/{name}/export", s.exportContainer},
		{head, "/containers/{name}/archive", s.statPath},
		{get, "/containers/{name}/archive", s.getArchive},
		{put, "/containers/{name}/archive", s.putArchive},
		{post, "/containers/{name}/start", s.startContainer},
		{post, "/containers/{name}/stop", s.stopContainer},
		{post, "/containers/{name}/restart", s.restartContainer},
		{post, "/containers/{name}/kill", s.killContainer},
		{post, "/containers/{name}/update", s.updateContainer},
		{post, "/containers/{name}/rename", s.renameContainer},
		{post, "/containers/{name}/pause", s.pauseContainer},
		{post, "/containers/{name}/unpause", s.unpauseContainer},
		{post, "/containers/{name}/resize", s.resizeContainer},
		{post, "/containers/{name}/attach", s.attachContainer},
		{get, "/containers/{name}/attach/ws", s.attachWebsocket},
		{post, "/containers/{name}/wait", s.waitContainer},
		{post, "/containers/{name}/exec", s.createExec},
		{remove, "/containers/{name}", s.removeContainer},

		{post, "/commit", s.commitContainer},

		{post, "/exec/{name}/start", s.startExec},
		{post, "/exec/{name}/resize", s.resizeExec},
		{get, "/exec/{name}/json", s.inspectExec},

		{get, "/images/json", s.listImages},
		{get, "/images/get", s.saveImages},
		{post, "/images/create", s.createImage},
		{post, "/images/load", s.loadImages},
		{post, "/images/prune", s.pruneImages},
		{get, "/images/{name}/json", s.inspectImage},
		{get, "/images/{name}/history", s.imageHistory},
		{get, "/images/{name}/get", s.saveImages},
		{post, "/images/{name}/push", s.pushImage},
		{post, "/images/{name}/tag", s.tagImage},
		{remove, "/images/{name}", s.removeImage},

		{post, "/build", s.build},
		{post, "/build/cancel", s.cancelBuild},
		{post, "/build/prune", s.pruneBuilds},
		{post, "/grpc", s.buildGRPC},
		{post, "/session", s.buildSession},

		{get, "/networks", s.listNetworks},
		{get, "/networks/", s.listNetworks},
		{post, "/networks/create", s.createNetwork},
		{post, "/networks/prune", s.pruneNetworks},
		{post, "/networks/{name}/connect", s.connectNetwork},
		{post, "/networks/{name}/disconnect", s.disconnectNetwork},
		{get, "/networks/{name}", s.inspectNetwork},
		{remove, "/networks/{name}", s.removeNetwork},

		{get, "/volumes", s.listVolumes},
		{post, "/volumes/create", s.createVolume},
		{post, "/volumes/prune", s.pruneVolumes},
		{get, "/volumes/{name}", s.inspectVolume},
		{remove, "/volumes/{name}", s.removeVolume},

		{get, "/plugins", s.listPlugins},

		{get, "/muelle/v1/version", s.muelleVersion},
		{get, "/muelle/v1/system/df", s.account},
		{post, "/muelle/v1/system/check", s.check},
		{post, "/muelle/v1/run", s.run},
		{post, "/muelle/v1/containers/{name}/debug", s.debugContainer},
		{post, "/muelle/v1/shutdown", s.shutdown},
		{post, "/muelle/v1/containers/{name}/ports", s.updatePorts},
		{get, "/muelle/v1/containers/{name}/kernel", s.containerKernel},
		{get, "/muelle/v1/containers/{name}/dns", s.containerLookups},
		{get, "/muelle/v1/exposure", s.exposure},
		{post, "/muelle/v1/containers/{name}/capture", s.containerCapture},
		{get, "/muelle/v1/why/{name}", s.why},
		{post, "/muelle/v1/explain", s.explain},
		{get, "/muelle/v1/zones", s.zones},
		{get, "/muelle/v1/projects", s.listProjects},
		{post, "/muelle/v1/projects/{name}/up", s.projectUp},
		{post, "/muelle/v1/projects/{name}/down", s.projectDown},
		{post, "/muelle/v1/projects/{name}/start", s.projectStart},
		{post, "/muelle/v1/projects/{name}/stop", s.projectStop},
		{post, "/muelle/v1/projects/{name}/restart", s.projectRestart},
		{get, "/muelle/v1/projects/{name}", s.inspectProject},
	}...)
	if s.o.Debug {
		t = append(t, debugRoutes()...)
	}
	return t
}
