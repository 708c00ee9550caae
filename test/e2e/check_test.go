//go:build root

package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"muelle/api"
)

// account compares the sum of all rows with du(1). What is removed goes after the answer,
// so that something may go between the two counts: they have to agree soon.
func account(t *testing.T, d *daemon, when string) (rows map[string]api.DiskUsageRow) {
	t.Helper()
	if err := eventually(30*time.Second, func() (err error) {
		rows, err = accounted(d)
		return err
	}); err != nil {
		t.Errorf("%s: %v", when, err)
	}
	return rows
}

func accounted(d *daemon) (map[string]api.DiskUsageRow, error) {
	res, err := d.http().Get("http://muelle/muelle/v1/system/df")
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	var usage api.DiskUsage
	if err := json.NewDecoder(res.Body).Decode(&usage); err != nil {
		return nil, err
	}
	// Status 1 says that a file went while it was being read.
	out, err := exec.Command("du", "-sx", "--block-size=1", filepath.Join(d.dir, "data")).Output()
	if err != nil {
		return nil, err
	}
	var du, sum int64
	if _, err := fmt.Sscan(string(out), &du); err != nil {
		return nil, err
	}
	rows := map[string]api.DiskUsageRow{}
	for _, r := range usage.Rows {
		sum += r.Size
		rows[r.Kind] = r
	}
	if diff := max(du-sum, sum-du); diff*100 > du || usage.Total != sum {
		return rows, fmt.Errorf("the rows sum to %d, the total says %d, du says %d: %+v", sum, usage.Total, du, usage.Rows)
	}
	return rows, nil
}

func TestDiskUsageEqualsDu(t *testing.T) {
	d := own(t)
	c := clients(t, d)[1]
	account(t, d, "empty")
	if _, text := report(t, c, 0); text != "" {
		t.Errorf("found where nothing is: %s", text)
	}
	c.must(t, "pull", "-q", "busybox:1.36")
	account(t, d, "after a pull")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM busybox:1.36\nRUN dd if=/dev/zero of=/big bs=1M count=3\nRUN dd if=/dev/urandom of=/more bs=1M count=2\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	image := c.must(t, "build", "-q", dir)
	account(t, d, "after a build")
	c.must(t, "run", "-d", "--name", "one", "-v", "data:/data", image, "sh", "-c",
		"dd if=/dev/zero of=/data/f bs=1M count=4; ln /data/f /data/g; dd if=/dev/zero of=/own bs=1M count=2; dd if=/dev/null of=/sparse bs=1M seek=500; yes line | head -c 300000; echo done >/data/done; sleep 1000")
	c.must(t, "exec", "one", "sh", "-c", "until test -s /data/done; do :; done")
	rows := account(t, d, "with a container")
	for kind, atLeast := range map[string]int64{"Images": 5 << 20, "Containers": 2 << 20, "Local Volumes": 4 << 20, "Logs": 300_000, "Metadata": 1} {
		if rows[kind].Size < atLeast || rows[kind].Size > atLeast+(12<<20) {
			t.Errorf("%s: %d bytes, want %d at least", kind, rows[kind].Size, atLeast)
		}
	}
	for _, c := range clients(t, d) {
		if out := c.must(t, "system", "df", "-v"); !strings.Contains(out, "data") || !strings.Contains(out, "one") {
			t.Errorf("%s system df -v: %s", c.name, out)
		}
		if out := c.must(t, "system", "df"); !strings.Contains(strings.Join(strings.Fields(out), " "), "Local Volumes 1 1 4.2") || strings.Contains(out, "Total of") != (c.name == "muelle") {
			t.Errorf("%s system df: %s", c.name, out)
		}
	}
	c.must(t, "rm", "-f", "one")
	c.must(t, "rmi", "-f", image)
	if rows := account(t, d, "with cache alone"); rows["Build Cache"].Size < 2<<20 {
		t.Errorf("build cache: %+v", rows["Build Cache"])
	}
}

// report runs system check and gives what was found by kind and name.
func report(t *testing.T, c client, code int, args ...string) (api.CheckReport, string) {
	t.Helper()
	r := c.try(t, append([]string{"system", "check", "--json"}, args...)...)
	var out api.CheckReport
	if err := json.Unmarshal([]byte(r.out), &out); err != nil || r.code != code {
		t.Fatalf("want status %d: %+v", code, r)
	}
	text := ""
	for _, f := range out.Findings {
		text += fmt.Sprintf("%s %s: %s (mendable %v, mended %v) %s\n", f.Kind, f.Name, f.Problem, f.Mendable, f.Mended, f.Error)
	}
	return out, text
}

func TestCheckFindsAndMends(t *testing.T) {
	d := own(t)
	c := clients(t, d)[1]
	data, run := filepath.Join(d.dir, "data"), filepath.Join(d.dir, "run")
	c.must(t, "pull", "-q", "busybox:1.36")
	c.must(t, "volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "mem")
	c.must(t, "run", "-d", "--name", "web", "-p", "18200:80", "--network", "bridge", "--ipc", "shareable", "-v", "mem:/m", "busybox:1.36", "sleep", "1000")
	if _, text := report(t, c, 0); text != "" {
		t.Fatalf("found at rest: %s", text)
	}
	sum := sha256.Sum256([]byte(data))
	instance := hex.EncodeToString(sum[:4])
	leftover := strings.Repeat("ab12", 16)
	web := c.must(t, "inspect", "-f", "{{.Id}}", "web")
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{
		filepath.Join(data, "containers", leftover, "upper"), filepath.Join(run, "containers", leftover, "shm"), filepath.Join(run, "build", leftover),
		filepath.Join(data, "volumes/lost/_data/precious"), filepath.Join(data, "volumes/.removed-x/_data"),
		filepath.Join(data, "store/snapshots/snapshots/99999/fs"), filepath.Join(data, "tmp/left"), filepath.Join(run, "odd"),
	} {
		check(os.MkdirAll(dir, 0o700))
	}
	for _, point := range []string{filepath.Join(run, "containers", leftover, "shm"), filepath.Join(data, "tmp/left"), filepath.Join(run, "odd")} {
		check(unix.Mount("planted", point, "tmpfs", 0, ""))
	}
	// A disk that an administrator gave to a part of the data is no leak.
	disk := filepath.Join(data, "store")
	check(unix.Mount(disk, disk, "", unix.MS_BIND, ""))
	defer unix.Unmount(disk, unix.MNT_DETACH)
	check(os.WriteFile(filepath.Join(data, "containers", web, "container.json"), []byte("garbage"), 0o600))
	check(os.WriteFile(filepath.Join(data, "volumes/mem/volume.json"), []byte("garbage"), 0o600))
	group := ""
	for _, g := range []string{"/sys/fs/cgroup/memory", "/sys/fs/cgroup"} {
		if _, err := os.Stat(filepath.Join(g, "muelle-"+instance)); err == nil && group == "" {
			group = filepath.Join(g, "muelle-"+instance)
		}
	}
	check(os.Mkdir(filepath.Join(group, leftover), 0o755))
	sleeper := exec.Command("tail")
	sleeper.Args = []string{"muelle-shim", "-f", "/dev/null"}
	check(sleeper.Start())
	defer sleeper.Wait()
	defer sleeper.Process.Kill()
	check(os.WriteFile(filepath.Join(group, "shims/cgroup.procs"), []byte(fmt.Sprint(sleeper.Process.Pid)), 0))
	check(netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "muev" + instance[:4] + "beefbee"}, PeerName: "planted"}))
	plantPort(t, "muelle-"+instance)
	blob := corruptLargest(t, filepath.Join(data, "store/content/blobs/sha256"))

	want := []string{
		"container folder " + filepath.Join(data, "containers", leftover), "run folder " + filepath.Join(run, "containers", leftover),
		"mount " + filepath.Join(run, "containers", leftover, "shm"), "mount " + filepath.Join(data, "tmp/left"), "mount " + filepath.Join(run, "odd"),
		"build folder " + filepath.Join(run, "build", leftover), "volume folder " + filepath.Join(data, "volumes/lost"), "volume folder " + filepath.Join(data, "volumes/.removed-x"),
		"layer " + filepath.Join(data, "store/snapshots/snapshots/99999"), "record " + filepath.Join(data, "containers", web, "container.json"),
		"record " + filepath.Join(data, "volumes/mem"), "cgroup /muelle-" + instance + "/" + leftover, fmt.Sprintf("process %d", sleeper.Process.Pid),
		"interface muev" + instance[:4] + "beefbee", "firewall rules nftables table inet muelle-" + instance, "blob sha256:" + blob,
	}
	found, text := report(t, c, 1)
	for _, w := range want {
		if !strings.Contains(text, w+": ") {
			t.Errorf("%s is not found", w)
		}
	}
	if len(found.Findings) != len(want) {
		t.Errorf("%d found, want %d: %s", len(found.Findings), len(want), text)
	}
	if _, text := report(t, c, 0, "--repair"); strings.Contains(text, "mended false") {
		t.Errorf("not mended: %s", text)
	}
	if _, text := report(t, c, 0); text != "" {
		t.Errorf("still there: %s", text)
	}
	// What runs was left alone, what was damaged is whole again.
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, disk, 0, 0, &st); err != nil || st.Attributes&unix.STATX_ATTR_MOUNT_ROOT == 0 {
		t.Errorf("the administrator's disk was unmounted (%v)", err)
	}
	c.must(t, "pull", "-q", "busybox:1.36")
	if _, text := report(t, c, 0); text != "" {
		t.Errorf("after the pull: %s", text)
	}
	c.must(t, "exec", "web", "true")
	c.must(t, "run", "--rm", "-v", "lost:/l", "busybox:1.36", "ls", "/l/precious")
	d.kill(t)
	check(d.start())
	c.must(t, "exec", "web", "true")
	if _, text := report(t, c, 0); text != "" {
		t.Errorf("after a crash: %s", text)
	}
	c.must(t, "rm", "-f", "web")
	c.must(t, "volume", "rm", "mem", "lost")
}

// TestRepairLeavesRuntimesAlone: what a shim has started, here another runtime that
// takes its time, belongs to its container.
func TestRepairLeavesRuntimesAlone(t *testing.T) {
	dir := t.TempDir()
	var pipes [2]*os.File
	for i, name := range []string{"begun", "go"} {
		at := filepath.Join(dir, name)
		if err := unix.Mkfifo(at, 0o600); err != nil {
			t.Fatal(err)
		}
		// Both ends: nobody waits for the other to open it.
		f, err := os.OpenFile(at, os.O_RDWR|unix.O_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		pipes[i] = f
	}
	slow := filepath.Join(dir, "slow")
	script := fmt.Sprintf("#!/bin/sh\ncase \" $* \" in *' create '*) echo >>%[1]s/begun; read x <%[1]s/go ;; esac\nexec %[2]s \"$@\"\n", dir, filepath.Join(world.bin, "muelle-oci"))
	if err := os.WriteFile(slow, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	d := own(t, "--add-runtime", "slow="+slow)
	c := ours(d)
	c.must(t, "pull", "-q", "busybox:1.36")
	done := make(chan result, 1)
	go func() { done <- c.try(t, "run", "--rm", "--runtime", "slow", "busybox:1.36", "echo", "started") }()
	if err := pipes[0].SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := pipes[0].Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if _, text := report(t, c, 0, "--repair"); text != "" {
		t.Errorf("found: %s", text)
	}
	if _, err := pipes[1].WriteString("x\n"); err != nil {
		t.Fatal(err)
	}
	if r := <-done; r.code != 0 || r.out != "started\n" {
		t.Errorf("%+v", r)
	}
}

func plantPort(t *testing.T, table string) {
	t.Helper()
	c, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	set, err := c.GetSetByName(&nftables.Table{Name: table, Family: nftables.TableFamilyINet}, "ports")
	if err != nil {
		t.Fatal(err)
	}
	err = c.SetAddElements(set, []nftables.SetElement{{Key: []byte{6, 0, 0, 0, 0x47, 0x19, 0, 0}, Val: []byte{172, 17, 0, 99, 0, 80, 0, 0}}})
	if err == nil {
		err = c.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
}

func corruptLargest(t *testing.T, dir string) (name string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var size int64
	for _, e := range list {
		if info, err := e.Info(); err == nil && info.Size() > size {
			name, size = e.Name(), info.Size()
		}
	}
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY, 0)
	if err != nil {
		if err = os.Chmod(filepath.Join(dir, name), 0o600); err == nil {
			f, err = os.OpenFile(filepath.Join(dir, name), os.O_WRONLY, 0)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("corrupt"), size/2); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestCheckWhileContainersComeAndGo(t *testing.T) {
	c := clients(t, world.daemon)[1]
	name := c.unique(t, "mem")
	c.must(t, "volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", name)
	var wg sync.WaitGroup
	end := make(chan struct{})
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-end:
					return
				default:
					c.must(t, "run", "--rm", "-v", "/anonymous", "-v", name+":/m", "-p", "80", "busybox", "true")
				}
			}
		})
	}
	for range 6 {
		// With --repair: what it found by mistake would break a container.
		if _, text := report(t, c, 0, "--repair"); text != "" {
			t.Errorf("found: %s", text)
		}
	}
	close(end)
	wg.Wait()
	c.must(t, "volume", "rm", name)
}
