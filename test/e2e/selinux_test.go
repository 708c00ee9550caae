//go:build root && vm

package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// selinuxPolicy is where the machine has the policy of test/vm/selinux.
const selinuxPolicy = "/muelle/selinux.policy"

// loadPolicy turns SELinux on, enforcing, for good: no policy can be unloaded.
func loadPolicy(t *testing.T) {
	t.Helper()
	policy, err := os.ReadFile(selinuxPolicy)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("selinuxfs", "/sys/fs/selinux", "selinuxfs", 0, ""); err != nil {
		t.Fatal("mount selinuxfs:", err)
	}
	for _, w := range []struct{ file, data string }{
		{"/sys/fs/selinux/load", string(policy)}, {"/sys/fs/selinux/enforce", "1"}, {"/proc/sys/kernel/printk_ratelimit", "0"},
	} {
		if err := os.WriteFile(w.file, []byte(w.data), 0); err != nil {
			t.Fatal(err)
		}
	}
}

// denials are what the policy refused, as the kernel's log has it.
func denials(t *testing.T) {
	if !t.Failed() {
		return
	}
	out, err := exec.Command("dmesg").Output()
	if err != nil {
		t.Error(err)
	}
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "avc:") {
			t.Log(strings.TrimSpace(line))
		}
	}
}

func fileLabel(t *testing.T, path string) string {
	t.Helper()
	label := make([]byte, 256)
	n, err := unix.Getxattr(path, "security.selinux", label)
	if err != nil {
		t.Fatalf("the label of %s: %v", path, err)
	}
	return strings.TrimRight(string(label[:n]), "\x00")
}

// TestSELinux: containers are kept apart by labels under an enforcing policy.
func TestSELinux(t *testing.T) {
	loadPolicy(t)
	t.Cleanup(func() { denials(t) })
	if got := ours(world.daemon).must(t, "info", "-f", "{{json .SecurityOptions}}"); strings.Contains(got, "selinux") {
		t.Errorf("a daemon that was not told to: info %s", got)
	}
	c := ours(own(t, "--selinux-enabled", "--userns-pool", "1000000:1000000"))
	if got := c.must(t, "info", "-f", "{{json .SecurityOptions}}"); !strings.Contains(got, `"name=selinux"`) {
		t.Errorf("info %s", got)
	}
	t.Run("labels", func(t *testing.T) { selinuxLabels(t, c) })
	t.Run("options", func(t *testing.T) { selinuxOptions(t, c) })
	t.Run("mounts", func(t *testing.T) { selinuxMounts(t, c) })
	t.Run("shared", func(t *testing.T) { selinuxShared(t, c) })
	t.Run("userns", func(t *testing.T) { selinuxUserNamespace(t, c) })
}

const currentLabel = "tr -d '\\000' </proc/self/attr/current"

// selinuxLabels: what runs in a container has its label, and its files theirs.
func selinuxLabels(t *testing.T, c client) {
	name := c.unique(t, "c")
	c.must(t, "run", "-d", "--init", "--ipc", "shareable", "--tmpfs", "/t", "--name", name, "busybox", "sleep", "1000")
	c.remove(t, name)
	var labels [2]string
	if err := json.Unmarshal([]byte(c.must(t, "inspect", "-f", `["{{.ProcessLabel}}","{{.MountLabel}}"]`, name)), &labels); err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`^system_u:system_r:container_t:(s0:c\d+,c\d+)$`).FindStringSubmatch(labels[0])
	if found == nil || labels[1] != "system_u:object_r:container_file_t:"+found[1] {
		t.Fatalf("labels %q", labels)
	}
	for what, got := range map[string]string{
		"init":       c.must(t, "exec", name, "sh", "-c", "tr -d '\\000' </proc/1/attr/current"),
		"program":    c.must(t, "exec", name, "sh", "-c", "tr -d '\\000' </proc/$(pidof sleep)/attr/current"),
		"exec":       c.must(t, "exec", name, "sh", "-c", currentLabel),
		"privileged": c.must(t, "exec", "--privileged", name, "sh", "-c", currentLabel),
	} {
		if got != labels[0] {
			t.Errorf("%s runs as %s, not as %s", what, got, labels[0])
		}
	}
	if got := c.must(t, "inspect", "--kernel", name); !strings.Contains(got, labels[0]) {
		t.Errorf("the kernel's view:\n%s", got)
	}
	root := "/proc/" + c.must(t, "inspect", "-f", "{{.State.Pid}}", name) + "/root"
	for _, dir := range []string{"/", "/bin/busybox", "/dev", "/dev/null", "/dev/pts", "/dev/shm", "/dev/mqueue", "/t", "/etc/hosts", "/etc/resolv.conf", "/etc/hostname"} {
		if got := fileLabel(t, root+dir); got != labels[1] {
			t.Errorf("%s has the label %s, not %s", dir, got, labels[1])
		}
	}
	if got := c.must(t, "exec", name, "sh", "-c", "cat /etc/hosts /etc/resolv.conf >/dev/null && for d in / /dev/shm /t; do echo >$d/mine || exit; done; echo ok"); got != "ok" {
		t.Errorf("in its own files: %s", got)
	}
	dir := t.TempDir()
	touch(t, dir, "copied")
	c.must(t, "cp", filepath.Join(dir, "copied"), name+":/copied")
	c.must(t, "exec", name, "cat", "/copied")
	c.must(t, "restart", "-t", "0", name)
	if got := c.must(t, "exec", name, "sh", "-c", currentLabel); got != labels[0] {
		t.Errorf("after a restart: %s", got)
	}
}

func selinuxOptions(t *testing.T, c client) {
	for options, want := range map[string]string{
		"type:container_logreader_t":            `^system_u:system_r:container_logreader_t:s0:c\d+,c\d+ system_u:object_r:container_file_t:s0:c\d+,c\d+$`,
		"level:s0:c5,c6":                        `^system_u:system_r:container_t:s0:c5,c6 system_u:object_r:container_file_t:s0:c5,c6$`,
		"level:s0":                              `^system_u:system_r:container_t:s0 system_u:object_r:container_file_t:s0$`,
		"user:other_u":                          `^other_u:system_r:container_t:s0:c\d+,c\d+ other_u:object_r:container_file_t:s0:c\d+,c\d+$`,
		"role:other_r":                          `^system_u:other_r:container_t:s0:c\d+,c\d+ system_u:object_r:container_file_t:s0:c\d+,c\d+$`,
		"filetype:container_ro_file_t level:s0": `^system_u:system_r:container_t:s0 system_u:object_r:container_ro_file_t:s0$`,
		"disable":                               `^system_u:system_r:kernel_t:s0-s0:c0.c1023 system_u:object_r:container_file_t:s0:c1022,c1023$`,
	} {
		args := []string{"run", "-d"}
		for _, o := range strings.Fields(options) {
			args = append(args, "--security-opt", "label="+o)
		}
		id := c.must(t, append(args, "busybox", "sleep", "1000")...)
		c.remove(t, id)
		pid := c.must(t, "inspect", "-f", "{{.State.Pid}}", id)
		label, err := os.ReadFile("/proc/" + pid + "/attr/current")
		if err != nil {
			t.Fatal(err)
		}
		got := strings.TrimRight(string(label), "\x00") + " " + fileLabel(t, "/proc/"+pid+"/root")
		if !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("%s: %s", options, got)
		}
	}
	for options, want := range map[string]string{
		"--security-opt label=colour:red":        "bad label option",
		"--security-opt label=type:muelle_none":  "does not know the label system_u:system_r:muelle_none",
		"--security-opt label=level:s7:c5000,c6": "does not know the label",
	} {
		r := c.try(t, append(append([]string{"run", "--rm"}, strings.Fields(options)...), "busybox", "true")...)
		if r.code != 125 || !strings.Contains(r.err, want) {
			t.Errorf("%s: %+v", options, r)
		}
	}
	if got := c.must(t, "run", "--rm", "--privileged", "busybox", "sh", "-c", currentLabel); !strings.Contains(got, ":kernel_t:") {
		t.Errorf("privileged: %s", got)
	}
	if got := c.must(t, "run", "--rm", "--security-opt", "no-new-privileges", "-t", "busybox", "sh", "-c", currentLabel); !strings.Contains(got, ":container_t:") {
		t.Errorf("no-new-privileges, on a terminal: %s", got)
	}
}

// selinuxMounts: what is not labelled for a container is out of reach, also for root.
func selinuxMounts(t *testing.T, c client) {
	dir := filepath.Join(world.dir, "labelled")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	touch(t, dir, "file")
	in := func(args ...string) string {
		r := c.try(t, append([]string{"run", "--rm"}, args...)...)
		return strings.TrimSpace(r.out + r.err)
	}
	const denied = "cat: can't open '/d/file': Permission denied"
	touching := []string{"busybox", "sh", "-c", "cat /d/file && echo new >/d/new && echo ok"}
	if got := in("-v", dir+":/d", "busybox", "cat", "/d/file"); got != denied {
		t.Errorf("without a label: %q", got)
	}
	if got := in(append([]string{"-v", dir + ":/d:z"}, touching...)...); got != "ok" {
		t.Errorf("with z: %q", got)
	}
	if got := fileLabel(t, filepath.Join(dir, "file")); got != "system_u:object_r:container_file_t:s0" {
		t.Errorf("z made the label %s", got)
	}
	if got := in(append([]string{"-v", dir + ":/d"}, touching...)...); got != "ok" {
		t.Errorf("another one after z: %q", got)
	}
	if got := in(append([]string{"-v", dir + ":/d:Z"}, touching...)...); got != "ok" {
		t.Errorf("with Z: %q", got)
	}
	if got := fileLabel(t, filepath.Join(dir, "file")); !strings.Contains(got, ":container_file_t:s0:c") {
		t.Errorf("Z made the label %s", got)
	}
	if got := in("-v", dir+":/d", "busybox", "cat", "/d/file"); got != denied {
		t.Errorf("another one after Z: %q", got)
	}
	if got := in("-v", "/etc:/d:z", "busybox", "true"); !strings.Contains(got, "SELinux relabeling of /etc is not allowed") {
		t.Errorf("the host's /etc: %q", got)
	}
	for _, volume := range [][]string{{"-v", "labels:/d"}, {"-v", "labels:/d:ro"}, {"--mount", "type=volume,source=labels,target=/d"}, {"-v", "/d"}} {
		if got := in(append(volume, "busybox", "sh", "-c", "{ touch /d/file 2>/dev/null; cat /d/file; } && echo ok")...); got != "ok" && volume[1] != "labels:/d:ro" || strings.Contains(got, "Permission") {
			t.Errorf("%v: %q", volume, got)
		}
	}
	c.must(t, "volume", "rm", "labels")
	c.must(t, "volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "memory")
	if got := in("-v", "memory:/d", "busybox", "sh", "-c", "echo >/d/file && echo ok"); got != "ok" {
		t.Errorf("a volume in memory: %q", got)
	}
	c.must(t, "volume", "rm", "memory")
	if got := in("--mount", "type=image,source=busybox,target=/d", "busybox", "sh", "-c", "cat /d/etc/passwd >/dev/null && echo ok"); got != "ok" {
		t.Errorf("an image: %q", got)
	}
}

// selinuxShared: who shares processes or memory shares the label.
func selinuxShared(t *testing.T, c client) {
	first := c.unique(t, "c")
	c.must(t, "run", "-d", "--name", first, "--ipc", "shareable", "busybox", "sleep", "1000")
	c.remove(t, first)
	label := c.must(t, "inspect", "-f", "{{.ProcessLabel}}", first)
	for _, how := range []string{"--pid", "--ipc"} {
		if got := c.must(t, "run", "--rm", how, "container:"+first, "busybox", "sh", "-c", currentLabel); got != label {
			t.Errorf("%s: %s, not %s", how, got, label)
		}
		if got := c.must(t, "run", "--rm", how, "host", "busybox", "sh", "-c", currentLabel); !strings.Contains(got, ":kernel_t:") {
			t.Errorf("%s host: %s", how, got)
		}
	}
	if got := c.must(t, "run", "--rm", "--network", "container:"+first, "busybox", "sh", "-c", "cat /etc/hosts /etc/resolv.conf >/dev/null && "+currentLabel); got == label || !strings.Contains(got, ":container_t:") {
		t.Errorf("who shares the network only: %s", got)
	}
	c.must(t, "exec", first, "cat", "/etc/hosts")
	c.must(t, "run", "--rm", "--pid", "container:"+first, "busybox", "sh", "-c", "kill -0 1")
}

// selinuxUserNamespace: ids of its own and a label of its own go together.
func selinuxUserNamespace(t *testing.T, c client) {
	name := c.unique(t, "c")
	dir := filepath.Join(world.dir, "mapped")
	if err := os.MkdirAll(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	touch(t, dir, "file")
	c.must(t, "run", "-d", "--init", "--userns", "auto", "--tmpfs", "/t", "-v", "mapped:/v", "-v", dir+":/d:Z", "--name", name, "busybox", "sleep", "1000")
	t.Cleanup(func() { c.must(t, "volume", "rm", "mapped") })
	c.remove(t, name)
	label, mount := c.must(t, "inspect", "-f", "{{.ProcessLabel}}", name), c.must(t, "inspect", "-f", "{{.MountLabel}}", name)
	if got := c.must(t, "exec", name, "sh", "-c", currentLabel); got != label {
		t.Errorf("it runs as %s, not as %s", got, label)
	}
	if got := c.must(t, "exec", name, "sh", "-c", "awk '{print $2 != 0}' /proc/self/uid_map"); got != "1" {
		t.Errorf("its root is the host's: %s", got)
	}
	if got := c.must(t, "exec", name, "sh", "-c", "cat /etc/hosts /etc/resolv.conf >/dev/null && for d in / /dev/shm /t /v /d; do echo >$d/mine || exit; done; echo ok"); got != "ok" {
		t.Errorf("in its own files: %s", got)
	}
	root := "/proc/" + c.must(t, "inspect", "-f", "{{.State.Pid}}", name) + "/root"
	for _, path := range []string{"/", "/bin/busybox", "/dev", "/dev/pts", "/dev/shm", "/t", "/t/mine", "/mine", "/d/mine", "/d/file", "/etc/hosts", "/etc/resolv.conf"} {
		if got := fileLabel(t, root+path); got != mount {
			t.Errorf("%s has the label %s, not %s", path, got, mount)
		}
	}
	// One with NET_ADMIN has a user namespace too, with the host's ids.
	if got := c.must(t, "run", "--rm", "--cap-add", "NET_ADMIN", "busybox", "sh", "-c", "echo >/mine && ip link set lo down && "+currentLabel); !strings.Contains(got, ":container_t:s0:c") {
		t.Errorf("with NET_ADMIN: %s", got)
	}
	// Another one has another label.
	if r := c.try(t, "run", "--rm", "-v", dir+":/d", "busybox", "cat", "/d/mine"); !strings.Contains(r.err, "Permission denied") {
		t.Errorf("somebody else's folder: %+v", r)
	}
	c.must(t, "restart", "-t", "0", name)
	if got := c.must(t, "exec", name, "sh", "-c", "cat /mine /d/mine && "+currentLabel); strings.TrimSpace(got) != label {
		t.Errorf("after a restart: %s", got)
	}
}
