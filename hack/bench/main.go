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
	"syscall"

	"github.com/vishvananda/netlink"
)

const insideEnv = "MUELLE_BENCH_INSIDE"

func main() {
	log.SetFlags(0)
	log.SetPrefix("bench: ")
	bin := flag.String("bin", "bin", "folder of Muelle's binaries")
	runs := flag.Int("runs", 15, "samples of each quick measurement")
	only := flag.String("only", "", "measure only rows whose name contains this")
	plot := flag.String("plot", "", "write a picture (SVG) of the rows with times to this file")
	flag.Parse()
	if os.Getenv(insideEnv) == "" {
		os.Exit(reexec())
	}
	if err := run(*bin, *runs, *only, *plot); err != nil {
		log.Fatal(err)
	}
}

func reexec() int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGTERM}
	if err := cmd.Run(); err != nil {
		return 1
	}
	return 0
}

func run(bin string, runs int, only, plot string) error {
	bin, err := filepath.Abs(bin)
	if err != nil {
		return err
	}
	if err := isolate(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("/var/tmp", "muelle-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
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

// isolate makes mounts private and gives the namespace an interface with a default
// route, as every machine has.
func isolate() error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return err
	}
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
