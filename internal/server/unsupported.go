package server

import (
	"github.com/containerd/errdefs"
)

// unsupported are Docker's endpoints that the engine does not offer yet: they
// answer 501 and name themselves; those of swarm answer as a Docker engine that is
// no swarm manager.
func unsupported() []route {
	var t []route
	for _, e := range []struct{ method, pattern string }{
		{get, "/images/{name}/attestations"},
		{get, "/images/search"},
		{get, "/distribution/{name}/json"},
		{get, "/plugins/privileges"},
		{post, "/plugins/pull"},
		{post, "/plugins/create"},
		{get, "/plugins/{name}/json"},
		{remove, "/plugins/{name}"},
		{post, "/plugins/{name}/enable"},
		{post, "/plugins/{name}/disable"},
		{post, "/plugins/{name}/upgrade"},
		{post, "/plugins/{name}/push"},
		{post, "/plugins/{name}/set"},
	} {
		t = append(t, route{e.method, e.pattern, notImplemented(e.method + " " + e.pattern)})
	}
	for _, e := range []struct{ method, pattern string }{
		{get, "/containers/{name}/checkpoints"},
		{post, "/containers/{name}/checkpoints"},
		{remove, "/containers/{name}/checkpoints/{rest}"},
	} {
		t = append(t, route{e.method, e.pattern, noCheckpoints})
	}
	for _, e := range []struct{ method, pattern string }{
		{get, "/nodes"}, {get, "/nodes/{name}"}, {remove, "/nodes/{name}"}, {post, "/nodes/{name}/update"},
		{get, "/swarm"}, {post, "/swarm/leave"}, {post, "/swarm/update"}, {get, "/swarm/unlockkey"}, {post, "/swarm/unlock"},
		{get, "/services"}, {post, "/services/create"}, {get, "/services/{name}/logs"}, {get, "/services/{name}"},
		{remove, "/services/{name}"}, {post, "/services/{name}/update"},
		{get, "/tasks"}, {get, "/tasks/{name}/logs"}, {get, "/tasks/{name}"},
		{get, "/secrets"}, {post, "/secrets/create"}, {get, "/secrets/{name}"}, {remove, "/secrets/{name}"}, {post, "/secrets/{name}/update"},
		{get, "/configs"}, {post, "/configs/create"}, {get, "/configs/{name}"}, {remove, "/configs/{name}"}, {post, "/configs/{name}/update"},
		{put, "/volumes/{name}"},
	} {
		t = append(t, route{e.method, e.pattern, notManager})
	}
	for _, pattern := range []string{"/swarm/init", "/swarm/join"} {
		t = append(t, route{post, pattern, notImplemented(post + " " + pattern)})
	}
	return t
}

func notImplemented(endpoint string) handler {
	err := errdefs.ErrNotImplemented.WithMessage(endpoint + " is not supported by this version of Muelle")
	return func(*reply, *request) error { return err }
}

// notManager answers as Docker does where swarm mode is off.
func notManager(*reply, *request) error {
	return errdefs.ErrUnavailable.WithMessage("This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.")
}

// noCheckpoints says why a running container cannot be written to disk.
func noCheckpoints(*reply, *request) error {
	return errdefs.ErrNotImplemented.WithMessage("checkpoints are not supported: writing a running process to disk takes CRIU, and Muelle runs without other programs; stop the container, or commit its files")
}
