//go:build root

package e2e

import (
	"os"
	"path/filepath"
	"testing"
)

// TestBuildRemapped: with userns-remap the steps of a build run in the user namespace too,
// and what they leave has the owners that they see.
func TestBuildRemapped(t *testing.T) {
	withSubids(t, "dockremap:2000000:65536\n")
	d := own(t, "--userns-remap", "default")
	makeBusybox(t, d)
	c := ours(d)
	dir := t.TempDir()
	for name, text := range map[string]string{"secret": "hidden", "given": "x", "Dockerfile": `FROM busybox AS first
RUN mkdir /from && echo other >/from/f
FROM busybox
WORKDIR /work/deep
COPY --chown=7:8 given /given
RUN tr -s ' ' </proc/self/uid_map >/map; touch /roots && touch /users && chown 1000:1000 /users && chmod 700 /users
RUN --mount=type=cache,target=/cache --mount=type=secret,id=s --mount=type=bind,from=first,source=/from,target=/from \
    stat -c %u /cache /given /users /work/deep >/seen && touch /cache/x && cat /run/secrets/s /from/f >>/seen
RUN --mount=type=cache,target=/cache stat -c %u:%n /cache/x >>/seen
USER 1000
RUN id -u >/tmp/who && touch /work/deep/no 2>/dev/null || echo refused >>/tmp/who
`} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	c.must(t, "build", "-t", "remapped", "--secret", "id=s,src="+filepath.Join(dir, "secret"), dir)
	want := "0 2000000 65536\n0\n7\n1000\n0\nhiddenother\n0:/cache/x\n1000\nrefused\n0:0 /roots\n1000:1000 /users\n7:8 /given\n0:0 /etc/passwd"
	for _, mode := range []string{"", "host"} {
		args := []string{"run", "--rm", "-u", "0"}
		if mode != "" {
			args = append(args, "--userns", mode)
		}
		got := c.must(t, append(args, "remapped", "sh", "-c", "cat /map /seen /tmp/who; stat -c '%u:%g %n' /roots /users /given /etc/passwd")...)
		if got != want {
			t.Errorf("--userns %q: %q, want %q", mode, got, want)
		}
	}
	// The same as without: no mount point of a step is left, and nobody's files are another's.
	plain := ours(world.daemon)
	plain.must(t, "build", "-t", "unmapped", "--secret", "id=s,src="+filepath.Join(dir, "secret"), dir)
	t.Cleanup(func() { plain.must(t, "rmi", "unmapped") })
	const all = "find / -xdev ! -name map ! -path '/etc/host*' ! -path '/etc/resolv.conf' ! -path /dev ! -path /proc ! -path /sys | sort | xargs stat -c '%n %u:%g %a'"
	with := c.must(t, "run", "--rm", "-u", "0", "--userns", "host", "remapped", "sh", "-c", all)
	if without := plain.must(t, "run", "--rm", "-u", "0", "unmapped", "sh", "-c", all); with != without {
		t.Errorf("built with userns-remap:\n%s\nwithout:\n%s", with, without)
	}
	// On the host's network the ids are the same.
	host := "FROM busybox\nRUN --network=host tr -s ' ' </proc/self/uid_map >/map && ip link show uplink && touch /own && chown 5:6 /own\n"
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(host), 0o644); err != nil {
		t.Fatal(err)
	}
	c.must(t, "build", "-t", "remapped", "--allow", "network.host", dir)
	if got := c.must(t, "run", "--rm", "remapped", "sh", "-c", "cat /map; stat -c %u:%g /own"); got != "0 2000000 65536\n5:6" {
		t.Errorf("a step on the host's network: %q", got)
	}
}
