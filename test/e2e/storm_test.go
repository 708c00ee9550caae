//go:build root

package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// storm is many clients that create, start, restart, stop and remove containers
// while the daemon is killed again and again. A client whose request is cut off asks
// again until it has what it wants.
type storm struct {
	*daemon
	t                    *testing.T
	size, clients, kills int
	// body is what container i is created from.
	body func(i int) string
	// live, unless nil, is what else a client does with a container that has started.
	live func(i int, path string)

	left chan int
	mu   sync.Mutex
	kept map[string]string // name → state
}

const (
	stormSize    = 200
	stormClients = 16
	stormKills   = 10
	// stormSeed in the environment repeats a storm.
	stormSeed = "MUELLE_STORM_SEED"
	// stormWhole in the environment makes every storm as large as the largest.
	stormWhole = "MUELLE_STORM_WHOLE"
)

// newStorm makes a storm with a daemon of its own.
func newStorm(t *testing.T, size, clients, kills int, flags ...string) *storm {
	t.Helper()
	if os.Getenv(stormWhole) != "" {
		size, clients, kills = stormSize, stormClients, stormKills
	}
	s := &storm{daemon: own(t, flags...), t: t, size: size, clients: clients, kills: kills, left: make(chan int, size), kept: map[string]string{}}
	ours(s.daemon).must(t, "pull", "-q", "busybox")
	return s
}

func TestStormOfClientsAndKills(t *testing.T) {
	s := newStorm(t, stormSize, stormClients, stormKills)
	c := ours(s.daemon)
	c.must(t, "network", "create", "storm")
	s.body = func(i int) string {
		options := []string{
			`"NetworkMode":"storm"`,
			fmt.Sprintf(`"PortBindings":{"80/tcp":[{"HostPort":"%d"}]}`, 21000+i),
			`"Mounts":[{"Type":"volume","Target":"/v"}],"IpcMode":"shareable"`,
			`"RestartPolicy":{"Name":"unless-stopped"}`,
		}
		return fmt.Sprintf(`{"Image":"busybox","Cmd":["sleep","1000"],"StopSignal":"SIGKILL","HostConfig":{%s}}`, options[i%4])
	}
	s.blow()
	s.check()
	s.calm()
	c.must(t, "network", "rm", "storm")
}

// blow lets the clients live while the daemon is killed at random.
func (s *storm) blow() {
	seed := uint64(time.Now().UnixNano())
	if given := os.Getenv(stormSeed); given != "" {
		var err error
		if seed, err = strconv.ParseUint(given, 10, 64); err != nil {
			s.t.Fatal(err)
		}
	}
	s.t.Logf("seed %d: %s repeats it", seed, stormSeed)
	for i := range s.size {
		s.left <- i
	}
	close(s.left)
	var clients sync.WaitGroup
	for range s.clients {
		clients.Go(func() {
			for i := range s.left {
				s.one(i)
			}
		})
	}
	random := rand.New(rand.NewPCG(seed, 0))
	when := make([]int, s.kills) // how much is left to do at each kill
	for i := range when {
		when[i] = random.IntN(s.size - s.clients)
	}
	slices.Sort(when)
	slices.Reverse(when)
	for _, at := range when {
		if err := eventually(2*time.Minute, func() error {
			if rest := len(s.left); rest > at {
				return fmt.Errorf("%d are left to do", rest)
			}
			return nil
		}); err != nil {
			s.t.Error(err)
		}
		s.kill(s.t)
		if err := s.start(); err != nil {
			s.t.Fatal(err)
		}
	}
	clients.Wait()
}

// calm removes everything, and looks for what is left on disk.
func (s *storm) calm() {
	t := s.t
	var clients sync.WaitGroup
	for name := range s.kept {
		clients.Go(func() { s.until("DELETE", "/containers/"+name+"?force=1&v=1", "", 204) })
	}
	clients.Wait()
	if volumes := ours(s.daemon).must(t, "volume", "ls", "-q"); volumes != "" {
		t.Errorf("anonymous volumes are left: %s", volumes)
	}
	for _, dir := range []string{"data/containers", "run/containers"} {
		if err := eventually(30*time.Second, func() error {
			entries, err := os.ReadDir(filepath.Join(s.dir, dir))
			if err == nil && len(entries) > 0 {
				err = fmt.Errorf("%s still has %v", dir, entries)
			}
			return err
		}); err != nil {
			t.Error(err)
		}
	}
}

// one is the life of one container; every sixth runs on, and every sixth is stopped.
func (s *storm) one(i int) {
	name := fmt.Sprintf("storm%d", i)
	path := "/containers/" + name
	s.until("POST", "/containers/create?name="+name, s.body(i), 201, 409)
	s.until("POST", path+"/start", "", 204, 304)
	if i%2 == 0 {
		s.until("POST", path+"/restart", "", 204)
	}
	if s.live != nil {
		s.live(i, path)
	}
	if i%6 < 2 {
		state := "running"
		if i%6 == 1 {
			s.until("POST", path+"/stop", "", 204, 304)
			state = "exited"
		}
		s.mu.Lock()
		s.kept[name] = state
		s.mu.Unlock()
		return
	}
	s.until("DELETE", path+"?force=1&v=1", "", 204, 404)
}

// until asks until the answer is one of those wanted.
func (s *storm) until(method, path, body string, want ...int) {
	err := eventually(time.Minute, func() error {
		req, err := http.NewRequestWithContext(s.t.Context(), method, "http://muelle"+path, strings.NewReader(body))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/json")
		res, err := s.http().Do(req)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		if err != nil {
			return err
		}
		for _, code := range want {
			if res.StatusCode == code {
				return nil
			}
		}
		return fmt.Errorf("%s %s: %s %s", method, path, res.Status, text)
	})
	if err != nil {
		s.t.Error(err)
	}
}

// check compares what there is with what the clients left.
func (s *storm) check() {
	res, err := s.http().Get("http://muelle/containers/json?all=1")
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	var list []struct {
		Names []string
		State string
	}
	if err := json.NewDecoder(res.Body).Decode(&list); err != nil {
		s.t.Fatal(err)
	}
	have := map[string]string{}
	for _, c := range list {
		have[strings.TrimPrefix(c.Names[0], "/")] = c.State
	}
	for name, state := range s.kept {
		if have[name] != state {
			s.t.Errorf("%s is %q, want %q", name, have[name], state)
		}
		delete(have, name)
	}
	if len(have) > 0 {
		s.t.Errorf("were removed and are there: %v", have)
	}
}
