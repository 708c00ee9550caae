package main

import (
	"encoding/json"
	"fmt"
	"log"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

const networks = 200

// networks makes and removes many networks with one container on all of them: a network
// that nobody is on costs Muelle next to nothing.
func (t *table) networks(string) error {
	name := func(what string) string { return fmt.Sprintf("%d networks, a container on each: %s", networks, what) }
	if !t.wanted(name("")) && !t.wanted("restart") {
		return nil
	}
	each := func(e *engine, args func(i int) []string) (float64, error) {
		begin := time.Now()
		for i := range networks {
			if out, err := e.cli(args(i)...).CombinedOutput(); err != nil {
				return 0, fmt.Errorf("%v: %w: %s", args(i), err, out)
			}
		}
		return float64(time.Since(begin).Milliseconds()), nil
	}
	many := func(i int) string { return fmt.Sprintf("many%d", i) }
	for _, e := range t.engines {
		args := []string{"run", "-d", "--name", "onall"}
		if e.name == "Muelle" {
			args = append(args, "-p", "30000-30999:1-1000") // two processes a port with the others
		}
		if out, err := e.cli(append(args, image, "sleep", "100000")...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", e.name, err, out)
		}
	}
	if err := t.row(name("create and connect, each a command"), "", "ms", 1, func(e *engine) (float64, error) {
		made, err := each(e, func(i int) []string {
			return []string{"network", "create", "--subnet", fmt.Sprintf("10.%d.%d.0/24", 220+slices.Index(t.engines, e), i), many(i)}
		})
		if err != nil {
			return 0, err
		}
		joined, err := each(e, func(i int) []string { return []string{"network", "connect", many(i), "onall"} })
		return made + joined, err
	}); err != nil {
		return err
	}
	if err := t.row("the daemon killed and started again beside them; Muelle's container runs on and publishes 1,000 ports", "", "ms", 1, func(e *engine) (float64, error) {
		if e.daemon == nil {
			return 0, errNotMeasured
		}
		if e.name == "Muelle" {
			e.proc.Process.Kill()
			e.proc.Wait()
		} else if err := e.end(); err != nil {
			return 0, err
		}
		took, err := e.launch()
		return float64(took.Microseconds()) / 1000, err
	}); err != nil {
		return err
	}
	return t.row(name("disconnect and remove, each a command"), "", "ms", 1, func(e *engine) (float64, error) {
		left, err := each(e, func(i int) []string { return []string{"network", "disconnect", "-f", many(i), "onall"} })
		if err != nil {
			return 0, err
		}
		removed, err := each(e, func(i int) []string { return []string{"network", "rm", many(i)} })
		if err == nil {
			err = e.cli("rm", "-f", "onall").Run()
		}
		return left + removed, err
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
	time.Sleep(time.Second) // the servers listen
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
