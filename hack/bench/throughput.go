package main

import (
	"encoding/json"
	"fmt"
	"log"
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

const iperfImage = "iperf:1"

// throughput is iperf3's, where that is installed.
func (t *table) throughput(dir string) error {
	var names []string
	for _, way := range []string{"container to container", "container to host", "through a published port"} {
		names = append(names, "iperf3, one connection of TCP, three seconds: "+way)
	}
	if !t.wantedAny(names...) {
		return nil
	}
	iperf, err := exec.LookPath("iperf3")
	if err != nil {
		log.Print("without throughput: there is no iperf3 here")
		return nil
	}
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
	if err := listens("127.0.0.1:5202"); err != nil {
		return err
	}
	address, port, failed := map[string]string{}, map[string]string{}, map[string]error{}
	for i, e := range t.engines {
		port[e.name] = strconv.Itoa(15201 + i)
		address[e.name], failed[e.name] = t.serveIperf(e, dir, iperf, port[e.name])
		defer e.tidy("iperf")
	}
	inside := func(e *engine, args ...string) *command {
		return e.cli(append([]string{"run", "--rm", iperfImage, iperf, "-J", "-t", "3", "-c"}, args...)...)
	}
	for i, way := range []func(e *engine) *command{
		func(e *engine) *command { return inside(e, address[e.name]) },
		func(e *engine) *command { return inside(e, "192.0.2.1", "-p", "5202") },
		func(e *engine) *command {
			return &command{args: []string{iperf, "-J", "-t", "3", "-c", "192.0.2.1", "-p", port[e.name]}, limit: patience}
		},
	} {
		if err := t.row(names[i], "", "Gbit/s", 3, func(e *engine) (float64, error) {
			if err := failed[e.name]; err != nil {
				return 0, err
			}
			return gigabits(way(e))
		}); err != nil {
			return err
		}
	}
	return nil
}

// serveIperf starts a server in a container and gives its address once it listens.
func (t *table) serveIperf(e *engine, dir, iperf, port string) (string, error) {
	if e.out != nil {
		return "", e.out
	}
	if err := e.take(t.engines[0], filepath.Join(dir, "iperf.tar"), iperfImage); err != nil {
		return "", err
	}
	if err := e.cli("run", "-d", "--name", "iperf", "-p", port+":5201", iperfImage, iperf, "-s").do(); err != nil {
		return "", err
	}
	address, err := e.cli("inspect", "-f", "{{.NetworkSettings.IPAddress}}", "iperf").output()
	if err != nil {
		return "", err
	}
	return address, listens(net.JoinHostPort(address, "5201"))
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

func gigabits(c *command) (float64, error) {
	out, err := c.output()
	var result struct {
		Error string
		End   struct {
			Received struct {
				Rate float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		}
	}
	if jerr := json.Unmarshal([]byte(out), &result); err == nil {
		err = jerr
	}
	if err != nil {
		return 0, fmt.Errorf("%w %s", err, result.Error)
	}
	rate := result.End.Received.Rate / 1e9
	if rate <= 0 {
		return 0, fmt.Errorf("`%s` carried nothing", c)
	}
	log.Printf("%.1f Gbit/s", rate)
	return rate, nil
}
