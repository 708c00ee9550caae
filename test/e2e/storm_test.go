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
	t    *testing.T
	left chan int
	mu   sync.Mutex
	kept map[string]string // name → state
}

const (
	stormSize    = 200
	stormClients = 16
	stormKills   = 10
)

func TestStormOfClientsAndKills(t *testing.T) {
	d := own(t)
	s := &storm{daemon: d, t: t, left: make(chan int, stormSize), kept: map[string]string{}}
	c := ours(d)
	c.must(t, "network", "create", "storm")
	c.must(t, "pull", "-q", "busybox")
	for i := range stormSize {
		s.left <- i
	}
	close(s.left)
	var clients sync.WaitGroup
	for range stormClients {
		clients.Go(func() {
			for i := range s.left {
				s.one(i)
			}
		})
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	when := make([]int, stormKills) // how much is left to do at each kill
	for i := range when {
		when[i] = random.IntN(stormSize - stormClients)
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
			t.Error(err)
		}
		d.kill(t)
		if err := d.start(); err != nil {
			t.Fatal(err)
		}
	}
	clients.Wait()
	s.check()
	for name := range s.kept {
		s.until("DELETE", "/containers/"+name+"?force=1&v=1", "", 204)
	}
	c.must(t, "network", "rm", "storm")
	if volumes := c.must(t, "volume", "ls", "-q"); volumes != "" {
		t.Errorf("anonymous volumes are left: %s", volumes)
	}
	for _, dir := range []string{"data/containers", "run/containers"} {
		if err := eventually(10*time.Second, func() error {
			entries, err := os.ReadDir(filepath.Join(d.dir, dir))
			if err == nil && len(entries) > 0 {
				err = fmt.Errorf("%s still has %v", dir, entries)
			}
			return err
		}); err != nil {
			t.Error(err)
		}
	}
}

// one is the life of one container; every sixth stays.
func (s *storm) one(i int) {
	name := fmt.Sprintf("storm%d", i)
	path := "/containers/" + name
	body := `{"Image":"busybox","Cmd":["sleep","1000"],"StopSignal":"SIGKILL","HostConfig":{%s}}`
	switch i % 4 {
	case 0:
		body = fmt.Sprintf(body, `"NetworkMode":"storm"`)
	case 1:
		body = fmt.Sprintf(body, fmt.Sprintf(`"PortBindings":{"80/tcp":[{"HostPort":"%d"}]}`, 21000+i))
	case 2:
		body = fmt.Sprintf(body, `"Mounts":[{"Type":"volume","Target":"/v"}],"IpcMode":"shareable"`)
	case 3:
		body = fmt.Sprintf(body, `"RestartPolicy":{"Name":"unless-stopped"}`)
	}
	s.until("POST", "/containers/create?name="+name, body, 201, 409)
	s.until("POST", path+"/start", "", 204, 304)
	if i%2 == 0 {
		s.until("POST", path+"/restart", "", 204)
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
