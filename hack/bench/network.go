package main

import (
	"bufio"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

// networks is how many are made, by clients at a time; the peers take about a second for
// each of them.
const networks, clients, manyPorts = 200, 4, 1000

// networkRows are those of the part, in their order: one depends on another, so all are measured
// where one is wanted.
var networkRows = []string{
	"200 networks by 4 clients, each a command: create",
	"200 networks by 4 clients, each a command: connect one container to all",
	"a container with 1,000 published ports: `run -d`",
	"the daemon started again beside both, the containers run on",
	"200 networks by 4 clients, each a command: disconnect the container",
	"200 networks by 4 clients, each a command: remove",
	"a container with 1,000 published ports: `rm -f`",
}

// networks makes and removes many networks with one container on all of them, for a
// network that nobody is on costs Muelle next to nothing, and many ports. What each
// step did is looked at before the next.
func (t *table) networks(string) error {
	if !t.wantedAny(networkRows...) {
		return nil
	}
	only := t.only
	t.only = ""
	defer func() { t.only = only }()
	failed := map[string]error{}
	t.published = map[string]bool{}
	step := func(i int, do func(e *engine) (float64, error)) error {
		return t.row(networkRows[i], "", "ms", 1, func(e *engine) (float64, error) {
			if failed[e.name] != nil {
				return 0, failed[e.name]
			}
			return do(e)
		})
	}
	for _, e := range t.engines {
		failed[e.name] = e.cli("run", "-d", "--name", "onall", image, "sleep", "100000").do()
		defer e.tidy("onall", "ports")
	}
	for i, do := range []func(*engine) (float64, error){t.create, t.connect, t.publish, t.restart, t.disconnect, t.removeNetworks, t.unpublish} {
		if err := step(i, do); err != nil {
			return err
		}
	}
	return nil
}

// each runs a command for every network, by several clients.
func each(e *engine, clients int, args func(i int) []string) (float64, error) {
	begin := time.Now()
	err := shared(networks, clients, func(i int) error { return e.cli(args(i)...).do() })
	return float64(time.Since(begin).Microseconds()) / 1000, err
}

func many(i int) string { return fmt.Sprintf("many%d", i) }

func (t *table) create(e *engine) (float64, error) {
	took, err := each(e, clients, func(i int) []string {
		return []string{"network", "create", "--subnet", fmt.Sprintf("10.%d.%d.0/24", 220+slices.Index(t.engines, e), i), many(i)}
	})
	if err != nil {
		return 0, err
	}
	return took, e.hasNetworks(networks)
}

func (t *table) connect(e *engine) (float64, error) {
	if err := e.without("connect"); err != nil {
		return 0, err
	}
	took, err := each(e, clients, func(i int) []string { return []string{"network", "connect", many(i), "onall"} })
	if err != nil {
		return 0, err
	}
	return took, e.hasInterfaces(networks + 1)
}

// publish starts a container whose first, middle and last port say their number.
func (t *table) publish(e *engine) (float64, error) {
	first := t.firstPort(e)
	took, err := e.cli("run", "-d", "--name", "ports", "-p", fmt.Sprintf("%d-%d:1-%d", first, first+manyPorts-1, manyPorts), image,
		"sh", "-c", fmt.Sprintf("for p in 1 %d %d; do nc -ll -p $p -e echo $p & done; wait", manyPorts/2, manyPorts)).within(longPatience).timed()
	if err != nil {
		return 0, err
	}
	t.published[e.name] = true
	return took, t.portsAnswer(e)
}

const unpublished = notMeasured("did not publish the 1,000 ports")

func (t *table) restart(e *engine) (float64, error) {
	if err := e.without("daemon"); err != nil {
		return 0, err
	}
	if !t.published[e.name] {
		return 0, unpublished
	}
	if err := e.endWithin(longPatience); err != nil {
		return 0, err
	}
	took, err := e.launch(longPatience)
	if err != nil {
		return 0, err
	}
	if err := e.hasNetworks(networks); err != nil {
		return 0, err
	}
	if e.without("connect") == nil {
		if err := e.hasInterfaces(networks + 1); err != nil {
			return 0, err
		}
	}
	return took, t.portsAnswer(e)
}

func (t *table) disconnect(e *engine) (float64, error) {
	if err := e.without("connect"); err != nil {
		return 0, err
	}
	took, err := each(e, clients, func(i int) []string { return []string{"network", "disconnect", many(i), "onall"} })
	if err != nil {
		return 0, err
	}
	return took, e.hasInterfaces(1)
}

func (t *table) removeNetworks(e *engine) (float64, error) {
	n := clients
	if e.alone {
		n, e.remark = 1, "by one client: `network rm` fails beside another"
	}
	took, err := each(e, n, func(i int) []string { return []string{"network", "rm", many(i)} })
	if err != nil {
		return 0, err
	}
	return took, e.hasNetworks(0)
}

func (t *table) unpublish(e *engine) (float64, error) {
	if !t.published[e.name] {
		return 0, unpublished
	}
	took, err := e.cli(append(slices.Clone(e.remove), "ports")...).within(longPatience).timed()
	if err != nil {
		return 0, err
	}
	for _, p := range []int{1, manyPorts / 2, manyPorts} {
		if text := says(t.firstPort(e) + p - 1); text != "" {
			return 0, fmt.Errorf("port %d answers after `rm -f`: %q", p, text)
		}
	}
	return took, nil
}

// hasNetworks checks how many of the networks there are.
func (e *engine) hasNetworks(want int) error {
	out, err := e.cli("network", "ls", "--format", "{{.Name}}").output()
	if err != nil {
		return err
	}
	n := 0
	for _, name := range strings.Fields(out) {
		if strings.HasPrefix(name, "many") {
			n++
		}
	}
	if n != want {
		return fmt.Errorf("there are %d networks, not %d", n, want)
	}
	return nil
}

// hasInterfaces checks how many interfaces the container on all networks has beside its
// own loopback.
func (e *engine) hasInterfaces(want int) error {
	out, err := e.cli("exec", "onall", "ls", "/sys/class/net").output()
	if err != nil {
		return err
	}
	if n := len(strings.Fields(out)) - 1; n != want {
		return fmt.Errorf("the container has %d interfaces, not %d", n, want)
	}
	return nil
}

func (t *table) firstPort(e *engine) int { return 30000 + manyPorts*slices.Index(t.engines, e) }

// portsAnswer waits until the first, middle and last published port say their number.
func (t *table) portsAnswer(e *engine) error {
	for _, p := range []int{1, manyPorts / 2, manyPorts} {
		deadline := time.Now().Add(20 * time.Second)
		for text := ""; text != strconv.Itoa(p); text = says(t.firstPort(e) + p - 1) {
			if time.Now().After(deadline) {
				return fmt.Errorf("published port %d says %q", p, text)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	return nil
}

// says gives the line that a port of the host answers with, or nothing.
func says(port int) string {
	conn, err := net.DialTimeout("tcp", fmt.Sprintf("192.0.2.1:%d", port), time.Second)
	if err != nil {
		return ""
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(2 * time.Second))
	line, _ := bufio.NewReader(conn).ReadString('\n')
	return strings.TrimSpace(line)
}
