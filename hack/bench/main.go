// Command bench measures what docs/performance.md promises, for Muelle and for
// Docker and Podman where they are installed, in one run and in turns, and prints a
// Markdown table of medians and ratios. It runs in a network and a mount namespace
// of its own, with daemons of its own.
package main

import (
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/vishvananda/netlink"
)

// The program is run three times: outside, where it waits and cleans up; as the first
// process of a namespace of processes, with whose end every process of the engines and
// their containers ends; and below that, where it measures.
const (
	stageEnv = "MUELLE_BENCH_STAGE"
	dirEnv   = "MUELLE_BENCH_DIR"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("bench: ")
	bin := flag.String("bin", "bin", "folder of Muelle's binaries")
	runs := flag.Int("runs", 15, "samples of each quick measurement")
	only := flag.String("only", "", "measure only rows whose name contains this")
	plot := flag.String("plot", "", "write a picture (SVG) of the rows with times to this file")
	flag.Parse()
	switch os.Getenv(stageEnv) {
	case "":
		os.Exit(outside())
	case "init":
		os.Exit(first())
	}
	if err := run(*bin, os.Getenv(dirEnv), *runs, *only, *plot); err != nil {
		log.Fatal(err)
	}
}

func run(bin, dir string, runs int, only, plot string) error {
	bin, err := filepath.Abs(bin)
	if err != nil {
		return err
	}
	if err := isolate(); err != nil {
		return err
	}
	rootfs, err := makeRootfs(dir)
	if err != nil {
		return err
	}
	var engines []*engine
	for _, e := range installed(bin, dir) {
		if err := e.start(); err != nil {
			return fmt.Errorf("start %s: %w", e.name, err)
		}
		defer e.stop()
		if out, err := e.cli("import", rootfs, image).CombinedOutput(); err != nil {
			return fmt.Errorf("%s import: %w: %s", e.name, err, out)
		}
		engines = append(engines, e)
	}
	t := table{runs: runs, only: only, engines: engines}
	if err := t.measure(dir); err != nil {
		return err
	}
	t.print(os.Stdout)
	if plot == "" {
		return nil
	}
	return t.plot(plot)
}

// isolate gives the network namespace an interface with a default route, as every
// machine has.
func isolate() error {
	up := func(name, address string) error {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		if address != "" {
			a, err := netlink.ParseAddr(address)
			if err != nil {
				return err
			}
			if err := netlink.AddrAdd(link, a); err != nil {
				return err
			}
		}
		return netlink.LinkSetUp(link)
	}
	if err := up("lo", ""); err != nil {
		return err
	}
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "uplink"}, PeerName: "away"}); err != nil {
		return err
	}
	if err := up("away", ""); err != nil {
		return err
	}
	if err := up("uplink", "192.0.2.1/24"); err != nil {
		return err
	}
	return netlink.RouteAdd(&netlink.Route{Gw: net.ParseIP("192.0.2.2")})
}

// makeRootfs writes a tar of a busybox system.
func makeRootfs(dir string) (string, error) {
	script := `set -e
d=$1/rootfs; mkdir -p $d/bin $d/etc $d/tmp $d/proc $d/sys $d/dev
cp "$(readlink -f "$(command -v busybox)")" $d/bin/busybox
for a in $(busybox --list); do [ $a = busybox ] || ln -s busybox $d/bin/$a; done
echo root:x:0:0:root:/root:/bin/sh >$d/etc/passwd
tar -C $d -cf $1/rootfs.tar .`
	out, err := exec.Command("sh", "-c", script, "sh", dir).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("make the image: %w: %s", err, out)
	}
	return filepath.Join(dir, "rootfs.tar"), nil
}
