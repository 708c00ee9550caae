//go:build root

package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// running gives the numbers of the containers that were left running.
func (s *storm) running() (list []int) {
	for i := range s.size {
		if s.kept[fmt.Sprintf("storm%d", i)] == "running" {
			list = append(list, i)
		}
	}
	return list
}

// inspected reads what the daemon knows of a container.
func (s *storm) inspected(i int, into any) error {
	res, err := s.http().Get(fmt.Sprintf("http://muelle/containers/storm%d/json", i))
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("storm%d: %s", i, res.Status)
	}
	return json.NewDecoder(res.Body).Decode(into)
}

// TestStormOfUsersHealthAndLogs is the storm with user namespaces, health checks and
// logs that go to syslog: what runs on is healthy, has ids of its own, and the service
// has its messages.
func TestStormOfUsersHealthAndLogs(t *testing.T) {
	s := newStorm(t, 60, 8, 4, "--userns-pool", "1000000:40000000")
	server := collectStreams(t, listenStream(t, "tcp", "127.0.0.1:5517"))
	s.body = func(i int) string {
		test := []string{`"Test":["CMD","test","-e","/ready"]`, `"Test":["CMD-SHELL","test -e /ready"]`}[i%2]
		return fmt.Sprintf(`{"Image":"busybox","Cmd":["sh","-c","echo storm%d. >&2; touch /ready; exec sleep 1000"],"StopSignal":"SIGKILL",
			"Healthcheck":{%s,"Interval":300000000,"Timeout":20000000000,"Retries":100},
			"HostConfig":{"UsernsMode":"%s","LogConfig":{"Type":"syslog","Config":{"syslog-address":"tcp://127.0.0.1:5517"}}}}`, i, test, []string{"auto:size=65536", ""}[i%3/2])
	}
	s.blow()
	s.check()
	users := map[uint32]string{}
	for _, i := range s.running() {
		var c struct {
			State struct {
				Pid    int
				Health struct{ Status string }
			}
		}
		if err := eventually(30*time.Second, func() error {
			err := s.inspected(i, &c)
			if err == nil && c.State.Health.Status != "healthy" {
				err = fmt.Errorf("storm%d is %+v", i, c.State)
			}
			return err
		}); err != nil {
			t.Error(err)
			continue
		}
		if i%3 < 2 {
			uid := ownerOf(t, c.State.Pid)
			if was := users[uid]; uid < 1000000 || was != "" {
				t.Errorf("storm%d is user %d outside, as is %q", i, uid, was)
			}
			users[uid] = fmt.Sprint("storm", i)
		}
		if err := eventually(20*time.Second, func() error {
			server.mu.Lock()
			defer server.mu.Unlock()
			for _, line := range server.lines {
				if strings.HasSuffix(line, fmt.Sprintf(" storm%d.\n", i)) {
					return nil
				}
			}
			return fmt.Errorf("no message of storm%d among %d", i, len(server.lines))
		}); err != nil {
			t.Error(err)
		}
	}
	s.calm()
}

const stormNetworks = 4

// TestStormOfNetworks is the storm with containers that are connected to and disconnected
// from networks with zones while they run, and with ports, shared and not.
func TestStormOfNetworks(t *testing.T) {
	s := newStorm(t, 60, 8, 4)
	c := ours(s.daemon)
	zones := [stormNetworks][]string{nil, {"--zone", "publish=host"}, {"--zone", "egress=192.0.2.0/24,example.test"}, {"--internal"}}
	for n, zone := range zones {
		c.must(t, append(append([]string{"network", "create"}, zone...), fmt.Sprint("storm", n))...)
	}
	s.body = func(i int) string {
		port, labels := 21000+i, ""
		if i%4 == 0 {
			port, labels = 21999, `"Labels":{"com.docker.compose.project":"storm","com.docker.compose.service":"shared","com.docker.compose.container-number":"`+fmt.Sprint(i)+`"},`
		}
		return fmt.Sprintf(`{"Image":"busybox","Cmd":["sh","-c","mkdir -p /www; echo storm%d >/www/index.html; exec httpd -f -p 80 -h /www"],"StopSignal":"SIGKILL",%s
			"HostConfig":{"NetworkMode":"storm%d","PortBindings":{"80/tcp":[{"HostPort":"%d"}]}}}`, i, labels, home(i), port)
	}
	change := func(verb string, n, i int) {
		s.until("POST", fmt.Sprintf("/networks/storm%d/%s", n, verb), fmt.Sprintf(`{"Container":"storm%d"}`, i), 200, 403)
	}
	s.live = func(i int, _ string) {
		change("connect", away(i), i)
		change("connect", away(i+2), i)
		change("disconnect", away(i), i)
	}
	s.blow()
	s.check()
	running := s.running()
	for _, i := range running {
		s.onNetworks(i)
		if i%4 != 0 && (on(i, 0) || on(i, 1) || on(i, 2)) { // an internal network publishes nothing
			s.serves(fmt.Sprintf("http://127.0.0.1:%d", 21000+i), i)
		}
	}
	few := running[:min(8, len(running))]
	for _, from := range few {
		for _, to := range few {
			s.finds(c, from, to)
		}
	}
	seen := map[string]int{}
	if err := eventually(20*time.Second, func() error {
		for range 3 * len(running) {
			text, err := get("http://127.0.0.1:21999")
			if err != nil {
				return err
			}
			seen[strings.TrimSpace(text)]++
		}
		for _, i := range running {
			if i%4 == 0 && (on(i, 0) || on(i, 1) || on(i, 2)) && seen[fmt.Sprint("storm", i)] == 0 {
				return fmt.Errorf("storm%d has no part of the shared port: %v", i, seen)
			}
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	if r := c.try(t, "zones", "--verify"); r.code != 0 {
		t.Errorf("the zones: %+v", r)
	}
	s.calm()
	for n := range zones {
		c.must(t, "network", "rm", fmt.Sprint("storm", n))
	}
}

// home is the network that container i is created on, away one that it is connected to
// and disconnected from.
func home(i int) int { return i / 6 % 3 }
func away(i int) int { return (i/2 + 1) % stormNetworks }

// on tells whether container i is to be on network n in the end.
func on(i, n int) bool { return n != away(i) && (n == home(i) || n == away(i+2)) }

// onNetworks holds a container's networks and interfaces against what its client wanted.
func (s *storm) onNetworks(i int) {
	var c struct {
		State           struct{ Pid int }
		NetworkSettings struct {
			Networks map[string]struct{ IPAddress string }
		}
	}
	if err := s.inspected(i, &c); err != nil {
		s.t.Error(err)
		return
	}
	want := 0
	for n := range stormNetworks {
		e, ok := c.NetworkSettings.Networks[fmt.Sprint("storm", n)]
		if on(i, n) {
			want++
		}
		if ok != on(i, n) || ok && e.IPAddress == "" {
			s.t.Errorf("storm%d on network storm%d: %+v, %v", i, n, e, ok)
		}
	}
	if got := interfacesOf(s.t, c.State.Pid); got != want {
		s.t.Errorf("storm%d has %d interfaces, want %d", i, got, want)
	}
}

func (s *storm) serves(url string, i int) {
	if err := eventually(30*time.Second, func() error {
		text, err := get(url)
		if err == nil && text != fmt.Sprint("storm", i) {
			err = fmt.Errorf("%q", text)
		}
		return err
	}); err != nil {
		s.t.Errorf("storm%d at %s: %v", i, url, err)
	}
}

// finds asks for one container's page from another, by name.
func (s *storm) finds(c client, from, to int) {
	shared := false
	for n := range stormNetworks {
		shared = shared || on(from, n) && on(to, n)
	}
	r := c.try(s.t, "exec", fmt.Sprint("storm", from), "timeout", "10", "wget", "-qO-", fmt.Sprint("http://storm", to))
	if (r.out == fmt.Sprintf("storm%d\n", to)) != shared {
		s.t.Errorf("storm%d to storm%d: %+v; a network in common: %v", from, to, r, shared)
	}
}

// ownerOf gives the user that a process has outside.
func ownerOf(t *testing.T, pid int) uint32 {
	t.Helper()
	var st syscall.Stat_t
	if err := syscall.Stat(fmt.Sprintf("/proc/%d", pid), &st); err != nil {
		t.Error(err)
	}
	return st.Uid
}

// interfacesOf counts the interfaces that a process sees, loopback apart.
func interfacesOf(t *testing.T, pid int) int {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/dev", pid))
	if err != nil {
		t.Error(err)
	}
	return strings.Count(string(data), ":") - 1
}
