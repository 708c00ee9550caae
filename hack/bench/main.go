// Command bench measures what docs/performance.md promises, for Muelle and for
// Docker, Podman and nerdctl where they are installed, in one run and in turns, and
// prints a Markdown table of medians and ratios, or makes one of several runs. It runs
// in a network and a mount namespace of its own, with daemons of its own.
package main

import (
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
)

// The program is run three times: outside, where it waits and cleans up; as the first
// process of a namespace of processes, with whose end every process of the engines and
// their containers ends; and below that, where it measures.
const (
	stageEnv = "MUELLE_BENCH_STAGE"
	dirEnv   = "MUELLE_BENCH_DIR"
)

// options are the flags.
type options struct {
	bin, part, only, engines, plot, save, command, into string
	runs                                                int
	table                                               bool
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("bench: ")
	var o options
	flag.StringVar(&o.bin, "bin", "bin", "folder of Muelle's binaries; below it, peers/ has such as were built")
	flag.IntVar(&o.runs, "runs", 15, "samples of each quick measurement")
	flag.StringVar(&o.part, "part", "", "main (the default) or networks")
	flag.StringVar(&o.only, "only", "", "measure only rows whose name contains this, of every part")
	flag.StringVar(&o.engines, "engines", "", "peers to measure beside Muelle, with commas between; all that are installed where empty")
	flag.StringVar(&o.plot, "plot", "", "write a picture (SVG) of the rows with times to this file")
	flag.StringVar(&o.save, "save", "", "keep the results in this file (JSON), after every row")
	flag.StringVar(&o.command, "command", "", "what the results say they were made by")
	flag.BoolVar(&o.table, "table", false, "measure nothing: make a table of the files of results that are given; of a cell that several have, the newest")
	flag.StringVar(&o.into, "into", "", "with -table: write the table between the marks in this page")
	flag.Parse()
	if err := o.valid(); err != nil {
		log.Fatal(err)
	}
	if o.table {
		if err := o.writeTable(flag.Args()); err != nil {
			log.Fatal(err)
		}
		return
	}
	switch os.Getenv(stageEnv) {
	case "":
		os.Exit(outside())
	case "init":
		os.Exit(first())
	}
	if err := o.run(os.Getenv(dirEnv)); err != nil {
		log.Fatal(err)
	}
}

func (o options) valid() error {
	switch {
	case !o.table && flag.NArg() > 0:
		return fmt.Errorf("unknown argument %q", flag.Arg(0))
	case o.part != "" && parts[o.part] == nil:
		return fmt.Errorf("unknown part %q: main or networks", o.part)
	}
	return nil
}

func (o options) writeTable(paths []string) error {
	all, err := readResults(paths)
	if err != nil {
		return err
	}
	all = byTime(all)
	sum := merge(all)
	var text strings.Builder
	sum.write(&text, all)
	if o.plot != "" {
		if err := sum.plot(o.plot); err != nil {
			return err
		}
	}
	if o.into == "" {
		_, err := fmt.Print(text.String())
		return err
	}
	page, err := os.ReadFile(o.into)
	if err != nil {
		return err
	}
	changed, err := replaceTable(string(page), text.String())
	if err != nil {
		return fmt.Errorf("%s: %w", o.into, err)
	}
	return os.WriteFile(o.into, []byte(changed), 0o644)
}

func (o options) run(dir string) error {
	bin, err := filepath.Abs(o.bin)
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
	if o.part == "" && o.only == "" {
		o.part = "main"
	}
	t := table{runs: o.runs, only: o.only, path: o.save}
	t.results = results{Made: time.Now(), Host: host(), Command: o.command}
	if o.command == "" {
		t.results.Command = strings.Join(append([]string{"hack/bench/run.sh"}, os.Args[1:]...), " ")
	}
	for _, e := range installed(bin, dir, strings.FieldsFunc(o.engines, func(r rune) bool { return r == ',' })) {
		defer e.stop()
		err := e.start()
		if err == nil {
			first := e
			if len(t.engines) > 0 {
				first = t.engines[0]
			}
			err = e.take(first, rootfs, image)
		}
		if err != nil && len(t.engines) == 0 {
			return fmt.Errorf("start %s: %w", e.name, err)
		}
		if err != nil {
			log.Printf("%s cannot be measured: %v", e.name, err)
			e.out = notMeasured("did not start: " + note(err))
		}
		t.engines = append(t.engines, e)
		t.results.Engines = append(t.results.Engines, engineName{e.name, e.version})
	}
	if err := t.measure(dir, o.part); err != nil {
		return err
	}
	fmt.Println()
	t.results.write(os.Stdout, []results{t.results})
	if o.plot == "" {
		return nil
	}
	return t.results.plot(o.plot)
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
