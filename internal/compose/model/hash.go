package model

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"muelle/api"
)

// fieldOrder is the order in which Docker Compose 5.5.1 (compose-go 2.15) writes a
// service's attributes before it hashes them. Later versions of compose-go have
// another one, and every running container would be recreated for that.
var fieldOrder = strings.Fields(`
	profiles annotations attach build develop blkio_config cap_add cap_drop cgroup_parent cgroup cpu_count
	cpu_percent cpu_period cpu_quota cpu_rt_period cpu_rt_runtime cpus cpuset cpu_shares command configs
	container_name credential_spec depends_on deploy device_cgroup_rules devices dns dns_opt dns_search
	dockerfile domainname entrypoint provider environment env_file expose extends external_links extra_hosts
	group_add gpus hostname healthcheck image init ipc isolation labels label_file links logging log_driver
	log_opt mem_limit mem_reservation memswap_limit mem_swappiness mac_address models net network_mode networks
	oom_kill_disable oom_score_adj pid pids_limit platform ports privileged pull_policy read_only restart
	runtime scale secrets security_opt shm_size stdin_open stop_grace_period stop_signal storage_opt sysctls
	tmpfs tty ulimits use_api_socket user userns_mode uts volume_driver volumes volumes_from working_dir
	pre_start post_start pre_stop`)

// ServiceHash is Docker Compose's configuration hash of a service, and, where it
// covers the ids of other services' containers once there are any, the document to
// compute it from then (api.ProjectService.HashTemplate).
func ServiceHash(s types.ServiceConfig) (hash, template string, err error) {
	s.Build = nil
	s.PullPolicy = ""
	s.Scale = nil
	if s.Deploy != nil {
		deploy := *s.Deploy
		deploy.Replicas = nil
		s.Deploy = &deploy
	}
	s.DependsOn = nil
	s.Profiles = nil
	doc, err := marshal(s)
	if err != nil {
		return "", "", fmt.Errorf("hash service %s: %w", s.Name, err)
	}
	hash = sum(doc)
	if !withReferences(&s) {
		return hash, "", nil
	}
	if doc, err = marshal(s); err != nil {
		return "", "", fmt.Errorf("hash service %s: %w", s.Name, err)
	}
	// In JSON the marks are written escaped; the ids that replace them need none.
	return hash, strings.ReplaceAll(string(doc), `\u0000`, "\x00"), nil
}

// withReferences replaces services that the configuration names by marks.
func withReferences(s *types.ServiceConfig) bool {
	found := false
	mark := func(mode string) string {
		name, ok := strings.CutPrefix(mode, types.ServicePrefix)
		if !ok {
			return mode
		}
		found = true
		return types.ContainerPrefix + api.ServiceRef(name)
	}
	s.NetworkMode, s.Ipc, s.Pid = mark(s.NetworkMode), mark(s.Ipc), mark(s.Pid)
	s.VolumesFrom = slices.Clone(s.VolumesFrom)
	for i, from := range s.VolumesFrom {
		name, rest, _ := strings.Cut(from, ":")
		if name == "container" {
			s.VolumesFrom[i], _, _ = strings.Cut(rest, ":")
			continue
		}
		found = true
		s.VolumesFrom[i] = api.ServiceRef(name)
	}
	return found
}

// marshal writes the service as Docker Compose 5.5.1 does.
func marshal(s types.ServiceConfig) ([]byte, error) {
	data, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	fields := map[string]json.RawMessage{}
	if err := json.Unmarshal(data, &fields); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	write := func(key string) {
		if v, ok := fields[key]; ok {
			sep := ","
			if b.Len() == 0 {
				sep = "{"
			}
			fmt.Fprintf(&b, "%s%q:%s", sep, key, v)
			delete(fields, key)
		}
	}
	for _, key := range fieldOrder {
		write(key)
	}
	for _, key := range sortedKeys(fields) {
		write(key)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// NetworkHash is Docker Compose's hash of a network's definition.
func NetworkHash(n types.NetworkConfig) (string, error) { return sumJSON(n) }

// VolumeHash is Docker Compose's hash of a volume's definition.
func VolumeHash(v types.VolumeConfig) (string, error) {
	if v.Driver == "" {
		v.Driver = "local"
	}
	return sumJSON(v)
}

func sumJSON(v any) (string, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("hash definition: %w", err)
	}
	return sum(data), nil
}

func sum(data []byte) string {
	h := sha256.Sum256(data)
	return hex.EncodeToString(h[:])
}
