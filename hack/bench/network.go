package main

import (
	"encoding/json"
	"fmt"
	"log"
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// networks is how many are made by clients at a time; the peers take about a second for
// each of them.
const networks, clients = 50, 4

// networks makes and removes many networks with one container on all of them: a network
// that nobody is on costs Muelle next to nothing.
func (t *table) networks(string) error {
	name := func(what string) string {
		return fmt.Sprintf("%d networks by %d clients, a container on each: %s", networks, clients, what)
	}
	if !t.wanted(name("")) && !t.wanted("restart") {
		return nil
	}
	each := func(e *engine, args func(i int) []string) (float64, error) {
		begin := time.Now()
		err := shared(networks, clients, func(i int) error {
			if out, err := e.cli(args(i)...).CombinedOutput(); err != nil {
				return fmt.Errorf("%v: %w: %s", args(i), err, out)
			}
			return nil
		})
		return float64(time.Since(begin).Milliseconds()), err
	}
	many := func(i int) string { return fmt.Sprintf("many%d", i) }
	for _, e := range t.engines {
		if out, err := e.cli("run", "-d", "--name", "onall", image, "sleep", "100000").CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", e.name, err, out)
		}
	}
	if err := t.row("a container that publishes 1,000 ports: `run -d`", "", "ms", 1, func(e *engine) (float64, error) {
		first := 30000 + 1000*slices.Index(t.engines, e)
		return e.peer(timed(e.cli("run", "-d", "--name", "ports", "-p", fmt.Sprintf("%d-%d:1-1000", first, first+999), image, "sleep", "100000")))
	}); err != nil {
		return err
	}
	if err := t.row(name("create and connect, each a command"), "", "ms", 1, func(e *engine) (float64, error) {
		made, err := each(e, func(i int) []string {
			return []string{"network", "create", "--subnet", fmt.Sprintf("10.%d.%d.0/24", 220+slices.Index(t.engines, e), i), many(i)}
		})
		if err != nil {
			return 0, err
		}
		joined, err := each(e, func(i int) []string { return []string{"network", "connect", many(i), "onall"} })
		return e.peer(made+joined, err)
	}); err != nil {
		return err
	}
	if err := t.row("the daemon started again beside both, the containers run on", "", "ms", 1, func(e *engine) (float64, error) {
		if e.daemon == nil {
			return 0, errNotMeasured
		}
		if err := e.end(); err != nil {
			return 0, err
		}
		took, err := e.launch()
		return float64(took.Microseconds()) / 1000, err
	}); err != nil {
		return err
	}
	if err := t.row(name("disconnect and remove, each a command"), "", "ms", 1, func(e *engine) (float64, error) {
		left, err := each(e, func(i int) []string { return []string{"network", "disconnect", "-f", many(i), "onall"} })
		if err != nil {
			return e.peer(0, err)
		}
		removed, err := each(e, func(i int) []string { return []string{"network", "rm", many(i)} })
		return e.peer(left+removed, err)
	}); err != nil {
		return err
	}
	defer func() {
		for _, e := range t.engines {
			e.cli("rm", "-f", "onall").Run()
		}
	}()
	return t.row("the container with 1,000 ports: `rm -f`", "", "ms", 1, func(e *engine) (float64, error) {
		return e.peer(timed(e.cli("rm", "-f", "ports")))
	})
}

// throughput is iperf3's, where that is installed.
func (t *table) throughput(dir string) error {
	const title = "iperf3, one connection of TCP: "
	iperf, err := exec.LookPath("iperf3")
	if err != nil || !t.wanted(title) {
		return nil
	}
	const iperfImage = "iperf:1"
	script := `set -e
d=$1/iperf; mkdir -p $d/tmp
for f in $2 $(ldd $2 | grep -o '/[^ ]*'); do mkdir -p $d$(dirname $f); cp -L $f $d$f; done
tar -C $d -cf $1/iperf.tar .`
	if out, err := exec.Command("sh", "-c", script, "sh", dir, iperf).CombinedOutput(); err != nil {
		return fmt.Errorf("make the image: %w: %s", err, out)
	}
	host := exec.Command(iperf, "-s", "-p", "5202")
	if err := host.Start(); err != nil {
		return err
	}
	defer func() { host.Process.Kill(); host.Wait() }()
	address, port := map[string]string{}, map[string]string{}
	for i, e := range t.engines {
		if out, err := e.cli("import", filepath.Join(dir, "iperf.tar"), iperfImage).CombinedOutput(); err != nil {
			return fmt.Errorf("%s import: %w: %s", e.name, err, out)
		}
		port[e.name] = strconv.Itoa(15201 + i)
		if out, err := e.cli("run", "-d", "--name", "iperf", "-p", port[e.name]+":5201", iperfImage, iperf, "-s").CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", e.name, err, out)
		}
		defer func() { e.cli("rm", "-f", "iperf").Run() }()
		out, err := e.cli("inspect", "-f", "{{.NetworkSettings.IPAddress}}", "iperf").Output()
		if err != nil {
			return fmt.Errorf("%s: address: %w", e.name, err)
		}
		address[e.name] = strings.TrimSpace(string(out))
	}
	for _, e := range t.engines {
		if err := listens(net.JoinHostPort(address[e.name], "5201")); err != nil {
			return fmt.Errorf("%s: %w", e.name, err)
		}
	}
	if err := listens("127.0.0.1:5202"); err != nil {
		return err
	}
	inside := func(e *engine, args ...string) *exec.Cmd {
		return e.cli(append([]string{"run", "--rm", iperfImage, iperf, "-J", "-t", "3", "-c"}, args...)...)
	}
	for _, way := range []struct {
		name    string
		command func(e *engine) *exec.Cmd
	}{
		{"container to container", func(e *engine) *exec.Cmd { return inside(e, address[e.name]) }},
		{"container to host", func(e *engine) *exec.Cmd { return inside(e, "192.0.2.1", "-p", "5202") }},
		{"through a published port", func(e *engine) *exec.Cmd {
			return exec.Command(iperf, "-J", "-t", "3", "-c", "192.0.2.1", "-p", port[e.name])
		}},
	} {
		if err := t.row(title+way.name, "", "Gbit/s", 3, func(e *engine) (float64, error) { return gigabits(way.command(e)) }); err != nil {
			return err
		}
	}
	return nil
}

// listens returns once somebody accepts connections at address.
func listens(address string) error {
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		conn, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			return conn.Close()
		}
		if time.Now().After(deadline) {
			return err
		}
	}
}

func gigabits(cmd *exec.Cmd) (float64, error) {
	out, err := cmd.Output()
	var result struct {
		Error string
		End   struct {
			Received struct {
				Rate float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		}
	}
	if jerr := json.Unmarshal(out, &result); err == nil {
		err = jerr
	}
	if err != nil {
		return 0, fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, result.Error)
	}
	log.Printf("%.1f Gbit/s", result.End.Received.Rate/1e9)
	return result.End.Received.Rate / 1e9, nil
}
