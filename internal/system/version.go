package system

import (
	"context"
	goruntime "runtime"
	"strconv"
	"time"

	"github.com/moby/moby/api/types/system"

	"muelle/api"
)

// Version gives what `docker version` shows of a server.
func (s *Service) Version(context.Context) (*system.VersionResponse, error) {
	defer s.versions.Since(time.Now())
	h, err := s.readHost()
	if err != nil {
		return nil, err
	}
	commit, built := buildSettings()
	v := &system.VersionResponse{
		Version: s.o.Version, APIVersion: api.DefaultVersion, MinAPIVersion: s.o.MinVersion,
		Os: "linux", Arch: goruntime.GOARCH, GitCommit: commit, GoVersion: goruntime.Version(),
		KernelVersion: h.kernel, BuildTime: built,
	}
	v.Experimental = s.o.Experimental
	v.Platform.Name = "Muelle"
	v.Components = []system.ComponentVersion{
		{Name: "Engine", Version: v.Version, Details: map[string]string{
			"ApiVersion": v.APIVersion, "MinAPIVersion": v.MinAPIVersion, "Os": v.Os, "Arch": v.Arch,
			"GitCommit": v.GitCommit, "GoVersion": v.GoVersion, "KernelVersion": v.KernelVersion,
			"BuildTime": v.BuildTime, "Experimental": strconv.FormatBool(v.Experimental),
		}},
		{Name: "containerd libraries", Version: libraryVersion("github.com/containerd/containerd/v2")},
		{Name: "buildkit libraries", Version: libraryVersion("github.com/moby/buildkit")},
	}
	return v, nil
}
