//go:build root

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// autostart runs in a mount namespace of its own, where the default places are
// empty: the host's are neither read nor written. MUELLE is the folder of programs.
const autostart = `
set -u; chmod go-w $MUELLE/*
mount -t tmpfs none /var/lib && mount -t tmpfs none /run || exit 1
stop() { [ -s /run/muelle/muelled.pid ] || return 0; pid=$(cat /run/muelle/muelled.pid); kill $pid; while [ -e /proc/$pid ]; do sleep 0.05; done; }
trap stop EXIT
muelle=$MUELLE/muelle
refused() { # WHAT COMMAND…: it must say so and start nothing
	what=$1; shift
	got=$("$@" 2>&1) && echo "$what: exit 0"
	case $got in
	"cannot reach muelled at unix:///run/muelle/muelle.sock: start it (systemctl start muelle) or join group muelle (which equals root)") ;;
	*) echo "$what: $got" ;;
	esac
	[ ! -e /var/lib/muelle ] || echo "$what: started"
}
refused 'MUELLE_AUTOSTART=0' env MUELLE_AUTOSTART=0 $muelle ps
refused '-H' $muelle -H unix:///run/muelle/muelle.sock ps
refused 'MUELLE_HOST' env MUELLE_HOST=unix:///run/muelle/muelle.sock $muelle ps
refused 'a context' $muelle --context default ps
refused 'not root' setpriv --reuid 65534 --regid 65534 --clear-groups env HOME=/nonexistent $muelle ps
refused 'another process namespace' unshare -p -f --mount-proc $muelle ps
chmod g+w $MUELLE/muelled; refused 'writable by others' $muelle ps; chmod g-w $MUELLE/muelled
chown 1 $MUELLE/muelled; refused 'not owned by root' $muelle ps; chown 0 $MUELLE/muelled
mv $MUELLE/muelled $MUELLE/away; refused 'not beside us' $muelle ps; mv $MUELLE/away $MUELLE/muelled

# Two at once, with what must not reach the daemon.
umask 077; exec 9>/run/lock; cd /tmp
(DOCKER_HOST=unix:///nowhere FOO=bar $muelle ps -q 2>&1 & DOCKER_HOST=unix:///nowhere $muelle ps -q 2>&1 & wait)
pid=$(cat /run/muelle/muelled.pid)
echo "environment $(tr '\0' ' ' </proc/$pid/environ)"
echo "directory $(readlink /proc/$pid/cwd)"
echo "umask $(awk '/^Umask/{print $2}' /proc/$pid/status)"
[ "$(ps -o sid= -p $pid | tr -d ' ')" = "$pid" ] && echo 'own session'
[ -e /proc/$pid/fd/9 ] && [ "$(readlink /proc/$pid/fd/9)" = /run/lock ] && echo 'the script'\''s lock leaked'
grep -c 'muelled is ready' /var/lib/muelle/muelled.log
$muelle ps -q && echo 'found again'

# Somebody else, with root's HOME: the sentence, not a complaint about files.
chmod 700 /run; mkdir -m 700 /run/home; mkdir /run/home/.muelle; chmod 711 /run
setpriv --reuid 65534 --regid 65534 --clear-groups env HOME=/run/home $muelle compose ls 2>&1

# A socket that refuses is as good as none.
kill -9 $pid; while [ -e /proc/$pid ]; do sleep 0.05; done
$muelle ps -q 2>&1
`

func TestAutostart(t *testing.T) {
	bin := filepath.Join(world.dir, "autostart")
	if err := os.Mkdir(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	// The programs alone: a former run of the virtual machines left devices beside them.
	programs, err := filepath.Glob(filepath.Join(world.bin, "muelle*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, program := range programs {
		data, err := os.ReadFile(program)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(bin, filepath.Base(program)), data, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(world.dir, 0o711); err != nil { // for nobody
		t.Fatal(err)
	}
	cmd := exec.Command("unshare", "-m", "-n", "--propagation", "private", "sh", "-c", autostart)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent", "MUELLE=" + bin}
	out, err := cmd.CombinedOutput()
	want := `muelle: started muelled (log: /var/lib/muelle/muelled.log)
environment PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root 
directory /
umask 0022
own session
1
found again
cannot reach muelled at unix:///run/muelle/muelle.sock: start it (systemctl start muelle) or join group muelle (which equals root)
muelle: started muelled (log: /var/lib/muelle/muelled.log)
`
	if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(string(out), "\n")); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
}
