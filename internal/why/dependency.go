package why

import (
	"strings"

	ctypes "github.com/moby/moby/api/types/container"

	"muelle/api"
	"muelle/internal/container"
	"muelle/internal/filter"
)

// dependencies tells of the services that have to be well before this one starts.
func (f *facts) dependencies() (out []api.WhyFinding) {
	labels := f.e.Config.Labels
	project := labels[api.LabelProject]
	for dep := range strings.SplitSeq(labels[api.LabelDependsOn], ",") {
		part := strings.Split(dep, ":")
		if project == "" || len(part) < 2 {
			continue
		}
		list, err := f.s.containers.List(f.ctx, container.ListOptions{All: true, Filters: filter.Args{
			"label": {api.LabelProject + "=" + project, api.LabelService + "=" + part[0]}}})
		if err != nil {
			continue
		}
		for _, c := range list {
			other, err := f.s.containers.Evidence(f.ctx, c.ID)
			if err != nil || dependencyHolds(part[1], other.State) {
				continue
			}
			out = append(out, f.finding("dependency", "It waits for service %s, which is %s, and not %s.", part[0], standing(other.State), strings.TrimPrefix(part[1], "service_")).
				because("label "+api.LabelDependsOn, "%s: %s", part[0], part[1]).
				because("state", "%s is %s", other.Name, standing(other.State)).
				do("muelle why %s", other.Name).f)
		}
	}
	return out
}

func standing(st *ctypes.State) string {
	if st.Running && st.Health != nil {
		return string(st.Health.Status)
	}
	return string(st.Status)
}

func dependencyHolds(condition string, st *ctypes.State) bool {
	switch condition {
	case "service_healthy":
		return st.Running && st.Health != nil && st.Health.Status == ctypes.Healthy
	case "service_completed_successfully":
		return !st.Running && st.ExitCode == 0 && st.Status == ctypes.StateExited
	}
	return st.Running
}
