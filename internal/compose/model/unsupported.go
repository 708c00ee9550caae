package model

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
	"go.yaml.in/yaml/v4"
)

// screened are the nodes of the model that refuse looks at as a whole.
var screened = []loader.UnsupportedAttributePattern{
	{Path: "services.*"}, {Path: "networks.*"}, {Path: "volumes.*"},
	{Path: "secrets.*"}, {Path: "configs.*"}, {Path: "models"}, {Path: "jobs"},
}

// known are the attributes that Muelle honours, by the path of their parent below
// a service (or network, …); lists are passed through. What is missing here is
// refused, so that an attribute that Compose gains later never passes silently.
var known = map[string]string{
	"services": `annotations attach blkio_config build cap_add cap_drop cgroup cgroup_parent command configs
		container_name cpu_period cpu_quota cpu_rt_period cpu_rt_runtime cpu_shares cpus cpuset depends_on deploy
		develop device_cgroup_rules devices dns dns_opt dns_search domainname entrypoint env_file environment expose
		extends external_links extra_hosts gpus group_add healthcheck hostname image init ipc label_file labels links logging mac_address
		mem_limit mem_reservation mem_swappiness memswap_limit name network_mode networks oom_kill_disable oom_score_adj pid
		pids_limit platform ports privileged profiles pull_policy read_only restart runtime scale secrets security_opt
		shm_size stdin_open stop_grace_period stop_signal storage_opt sysctls tmpfs tty ulimits user userns_mode uts
		volume_driver volumes volumes_from working_dir`,
	"services.build": `additional_contexts args cache_from cache_to context dockerfile dockerfile_inline entitlements
		extra_hosts labels network no_cache platforms privileged provenance pull sbom secrets shm_size ssh tags target ulimits`,
	"services.configs":                               `gid mode source target uid`,
	"services.deploy":                                `resources replicas restart_policy`,
	"services.deploy.resources":                      `limits reservations`,
	"services.deploy.resources.limits":               `cpus memory pids`,
	"services.deploy.resources.reservations":         `devices memory`,
	"services.deploy.resources.reservations.devices": `capabilities count device_ids driver options`,
	"services.gpus":                                  `capabilities count device_ids driver options`,
	"services.deploy.restart_policy":                 `condition max_attempts`,
	"services.healthcheck":                           `disable interval retries start_interval start_period test timeout`,
	"services.logging":                               `driver options`,
	"services.networks.*": `aliases driver_opts gw_priority interface_name ipv4_address ipv6_address link_local_ips
		mac_address priority use_service_name_alias`,
	"services.ports":          `app_protocol host_ip mode name protocol published target`,
	"services.secrets":        `gid mode source target uid`,
	"services.volumes":        `bind consistency image read_only source target tmpfs type volume`,
	"services.volumes.bind":   `create_host_path propagation recursive selinux`,
	"services.volumes.image":  `subpath`,
	"services.volumes.tmpfs":  `mode size`,
	"services.volumes.volume": `labels nocopy subpath`,
	"networks":                `attachable driver driver_opts enable_ipv4 enable_ipv6 external internal ipam labels name`,
	"networks.ipam":           `config driver options`,
	"networks.ipam.config":    `aux_addresses gateway ip_range subnet`,
	"volumes":                 `driver driver_opts external labels name`,
	"secrets":                 `file labels name`,
	"configs":                 `file labels name`,
}

// swarm are attributes that only a Swarm heeds: ignored with a warning, as Docker
// Compose ignores them.
var swarm = map[string]string{
	"services.deploy":                        `endpoint_mode labels mode placement rollback_config update_config`,
	"services.deploy.resources.reservations": `cpus`,
	"services.deploy.restart_policy":         `delay window`,
}

// finding is one attribute that is not honoured.
type finding struct {
	path   []string // services, web, deploy, …
	detail string   // more than the name, if it takes more
}

// refuse returns an error for the first attribute that Muelle does not honour, of
// what is left of the project after selection.
func refuse(p *types.Project, nodes []loader.UnsupportedAttribute, warn func(string)) error {
	var found []finding
	for _, node := range nodes {
		path := strings.Split(string(node.Path), ".")
		if len(path) < 2 {
			if m, ok := node.Value.(map[string]any); ok && len(m) > 0 {
				found = append(found, finding{path: path})
			}
			continue
		}
		if !present(p, path[0], path[1]) {
			continue
		}
		inspect(path[0], path, node.Value, &found, warn)
	}
	if len(found) == 0 {
		return nil
	}
	return found[0].err(p)
}

// present says whether a node survived the selection of services.
func present(p *types.Project, kind, name string) bool {
	var ok bool
	switch kind {
	case "services":
		_, ok = p.Services[name]
	case "networks":
		_, ok = p.Networks[name]
	case "volumes":
		_, ok = p.Volumes[name]
	case "secrets":
		_, ok = p.Secrets[name]
	case "configs":
		_, ok = p.Configs[name]
	}
	return ok
}

func inspect(key string, path []string, value any, found *[]finding, warn func(string)) {
	switch v := value.(type) {
	case []any:
		for _, item := range v {
			inspect(key, path, item, found, warn)
		}
	case map[string]any:
		if words, ok := known[key+".*"]; ok {
			for _, name := range sortedKeys(v) {
				inspectMap(key+".*", words, append(slices.Clone(path), name), v[name], found, warn)
			}
			return
		}
		if words, ok := known[key]; ok {
			inspectMap(key, words, path, v, found, warn)
		}
	}
}

func inspectMap(key, words string, path []string, value any, found *[]finding, warn func(string)) {
	m, ok := value.(map[string]any)
	if !ok {
		return
	}
	for _, name := range sortedKeys(m) {
		at := append(slices.Clone(path), name)
		switch {
		case strings.HasPrefix(name, "x-"), name == "#extensions", empty(m[name]):
		case slices.Contains(strings.Fields(swarm[key]), name):
			if !(name == "mode" && m[name] == "replicated") {
				warn(fmt.Sprintf("%s is heeded by Docker Swarm only and ignored here, as by Docker Compose", strings.Join(at, ".")))
			}
		case !slices.Contains(strings.Fields(words), name):
			*found = append(*found, finding{path: at})
		default:
			if detail := refuseValue(strings.TrimPrefix(key, "services.")+"."+name, m[name]); detail != "" {
				*found = append(*found, finding{path: at, detail: detail})
			}
			inspect(key+"."+name, at, m[name], found, warn)
		}
	}
}

// refuseValue names values of supported attributes that are not supported.
func refuseValue(attribute string, value any) string {
	text, _ := value.(string)
	switch attribute {
	case "volumes.type":
		if !slices.Contains([]string{"bind", "volume", "tmpfs", "image"}, text) {
			return "type " + text
		}
	case "services.pull_policy":
		if !slices.Contains([]string{"always", "missing", "if_not_present", "never", "build"}, text) {
			return text
		}
	}
	return ""
}

func empty(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case []any:
		return len(v) == 0
	case map[string]any:
		return len(v) == 0
	case bool:
		return !v
	}
	return false
}

// err words the finding with the file that has it.
func (f finding) err(p *types.Project) error {
	if len(f.path) == 3 && strings.EqualFold(f.path[2], "content") && p.Secrets[f.path[1]].Environment+p.Configs[f.path[1]].Environment != "" {
		// The loader has put the variable's content there.
		f.path = append(slices.Clone(f.path[:2]), "environment")
	}
	what := strings.Join(f.path, ".")
	if len(f.path) > 2 {
		kind := strings.TrimSuffix(f.path[0], "s")
		what = fmt.Sprintf("%s %q: attribute %s", kind, f.path[1], strings.Join(f.path[2:], "."))
	}
	if f.detail != "" {
		what += " " + f.detail
	}
	return fmt.Errorf("%s is not supported by Muelle yet (%s)", what, f.file(p))
}

// file is the last of the project's files that has the attribute, else the first
// of them (it may come from an included or extended one).
func (f finding) file(p *types.Project) string {
	for _, name := range slices.Backward(p.ComposeFiles) {
		data, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		var doc any
		if yaml.Unmarshal(data, &doc) == nil && has(doc, f.path) {
			return name
		}
	}
	if len(p.ComposeFiles) == 0 {
		return "-"
	}
	return p.ComposeFiles[0]
}

func has(node any, path []string) bool {
	if len(path) == 0 {
		return true
	}
	m, ok := node.(map[string]any)
	if !ok {
		// A list in the file where the model has a map: near enough to name the file.
		return node != nil
	}
	next, ok := m[path[0]]
	return ok && has(next, path[1:])
}
