//go:build vm

package vm_test

import (
	_ "embed"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

//go:embed systemd.sh
var systemdScript string

//go:embed journal.sh
var journalScript string

//go:embed podman.sh
var podmanScript string

//go:embed swap.sh
var swapScript string

// checked are the lines that the script prints.
var checked = regexp.MustCompile(`(?m)^--- (PASS|FAIL): (.*)$`)

const testUnit = `[Unit]
Description=Checks of Muelle
Wants=muelle.service
After=muelle.service
[Service]
Type=oneshot
ExecStart=/bin/sh /muelle/check
StandardOutput=null
StandardError=null
`

const testTarget = `[Unit]
Description=Muelle's test
Requires=basic.target
After=basic.target
Wants=muelle.service check.service
`

// TestSystemd boots a Debian whose first process is systemd, with our unit and the
// systemd cgroup driver; TestSystemdHybrid does with cgroup v1 and the unified hierarchy
// beside it, as systemd before version 247 had them.
func TestSystemd(t *testing.T) { underSystemd(t, "systemd", "system", "", systemdScript) }

func TestSystemdHybrid(t *testing.T) {
	underSystemd(t, "systemd-hybrid", "system", " systemd.unified_cgroup_hierarchy=0", systemdScript)
}

// TestPodman is by hand: podman with systemd's control groups and muelle-oci, and the log
// driver journald with systemd's own journal and the Docker client.
func TestPodman(t *testing.T) {
	const client = "client=docker DOCKER_HOST=unix:///run/muelle/muelle.sock; export DOCKER_HOST"
	underSystemd(t, "podman", "podman", "", instead(t, client, journalScript, podmanScript))
}

// TestSwapOfVersion1 is by hand: limits of swap and reservations bite on cgroup v1.
func TestSwapOfVersion1(t *testing.T) {
	underSystemd(t, "swap", "system", " systemd.unified_cgroup_hierarchy=0 swapaccount=1", instead(t, swapScript))
}

// instead is the script of TestSystemd with other checks between its beginning and its end.
func instead(t *testing.T, checks ...string) string {
	t.Helper()
	const stop = "\nsystemctl stop muelle.service\n"
	begin, rest, ok := strings.Cut(systemdScript, "\nid=$(")
	_, end, ok2 := strings.Cut(rest, stop)
	if !ok || !ok2 {
		t.Fatal("systemd.sh has another shape than this test knows")
	}
	return begin + "\n" + strings.Join(checks, "\n") + stop + end
}

// underSystemd boots the system of a folder in bin/vm, which runs a script.
func underSystemd(t *testing.T, name, folder, words, script string) {
	system := filepath.Join("../../bin/vm", folder)
	if _, err := os.Stat(system); err != nil {
		t.Fatalf("%v: run hack/vmsystem.sh", err)
	}
	tree := filepath.Join(t.TempDir(), "tree")
	if out, err := exec.CommandContext(t.Context(), "cp", "-a", system, tree).CombinedOutput(); err != nil {
		t.Fatalf("copy the system: %v %s", err, out)
	}
	copyBinaries(t, filepath.Join(tree, "usr/local/bin"))
	if folder == "podman" {
		install(t, tree, "docker")
	}
	unit, err := os.ReadFile("../../hack/systemd/muelle.service")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"etc/systemd/system/muelle.service": strings.ReplaceAll(string(unit), "@PREFIX@", "/usr/local"),
		"etc/systemd/system/check.service":  testUnit,
		"etc/systemd/system/check.target":   testTarget,
		"etc/muelle/daemon.json":            `{"exec-opts": ["native.cgroupdriver=systemd"], "debug": true}`,
		"etc/machine-id":                    "0123456789abcdef0123456789abcdef\n",
		"etc/hostname":                      "vm\n",
		"muelle/check":                      script,
	} {
		path := filepath.Join(tree, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	writeImage(t, filepath.Join(tree, "muelle/busybox.tar"))
	out := boot(t, name, tree, "muelle.init=/lib/systemd/systemd systemd.unit=check.target systemd.show_status=no"+words, 15*time.Minute)
	for _, m := range checked.FindAllStringSubmatch(out, -1) {
		t.Run(m[2], func(t *testing.T) {
			if m[1] != "PASS" {
				t.Error("it did not pass in the virtual machine")
			}
		})
	}
	if !strings.Contains(out, "muelle-vm: all checks were made\n") || t.Failed() {
		t.Errorf("the machine's console:\n%s", out)
	}
}
