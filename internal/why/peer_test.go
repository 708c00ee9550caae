package why_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	ctypes "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"muelle/internal/container"
	"muelle/internal/why"
)

// TestPeers: what a program could not reach, held against the other containers.
func TestPeers(t *testing.T) {
	ended := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	at := func(d time.Duration) string { return ended.Add(d).Format(time.RFC3339Nano) }
	on := func(net, addr string) map[string]*network.EndpointSettings {
		return map[string]*network.EndpointSettings{net: {IPAddress: netip.MustParseAddr(addr), DNSNames: []string{"db", "alias"}}}
	}
	running := &ctypes.State{Status: ctypes.StateRunning, Running: true, StartedAt: at(-time.Hour)}
	exited := &ctypes.State{Status: ctypes.StateExited, ExitCode: 3, StartedAt: at(-time.Hour)}
	late := &ctypes.State{Status: ctypes.StateRunning, Running: true, StartedAt: at(time.Second)}
	listens := func(s ...string) (out []netip.AddrPort) {
		for _, a := range s {
			out = append(out, netip.MustParseAddrPort(a))
		}
		return out
	}
	db := why.Peer{Name: "db", State: running, Networks: on("back", "172.20.0.2"), Listens: listens("0.0.0.0:5432")}
	apart := db
	apart.Networks = on("store", "172.21.0.2")
	down := db
	down.State = exited
	deaf := db
	deaf.Listens = listens("127.0.0.1:5432")
	empty := db
	empty.Listens = nil
	other := db
	other.Listens = listens("0.0.0.0:27017")
	other.Ports = network.PortMap{network.MustParsePort("27017/tcp"): {{HostPort: "5432"}}}
	young := db
	young.State = late
	for _, tt := range []struct {
		name, line string
		peer       why.Peer
		cause      string
		likely     bool
		says       []string
	}{
		{"no shared network", `could not translate host name "db" to address: Name or service not known`, apart, "unresolved-name", false,
			[]string{"share no network", "c: back; db: store", "muelle network connect store c"}},
		{"does not run", "Error: getaddrinfo ENOTFOUND db", down, "unresolved-name", false, []string{"does not run", "exited (3)", "muelle why db", "depends_on"}},
		{"by its other name", "Error: getaddrinfo EAI_AGAIN alias", down, "unresolved-name", false, []string{"alias (container db)"}},
		{"not there yet", "wget: bad address 'db'", young, "unresolved-name", false, []string{"was not there yet"}},
		{"nobody", "Error: getaddrinfo ENOTFOUND redis", db, "unresolved-name", true, []string{"no container is called redis"}},
		{"PHP", "php_network_getaddresses: getaddrinfo for db failed: Name or service not known", down, "unresolved-name", false, []string{"db does not run"}},
		{"by address, apart", "Error: connect ECONNREFUSED 172.21.0.2:5432", apart, "refused", false, []string{"share no network"}},
		{"refused, down", "psycopg2.OperationalError: connection to server at \"db\" (172.20.0.2), port 5432 failed: Connection refused", down, "refused", false, []string{"db:5432", "does not run"}},
		{"refused, listens now", "dial tcp 172.20.0.2:5432: connect: connection refused", db, "refused", false, []string{"nothing listened there yet", "listens on 0.0.0.0:5432", "service_healthy"}},
		{"refused, for itself", "db:5432: [Errno 111] Connection refused", deaf, "refused", false, []string{"for itself only", "0.0.0.0"}},
		{"refused, another port", "Error: connect ECONNREFUSED 172.20.0.2:5432", other, "refused", false, []string{"nothing in it listens on port 5432", "listens on 27017", "5432 is the host's port for its port 27017", "172.20.0.2:27017"}},
		{"refused, nothing", "HTTPConnectionPool(host='db', port=80): Connection refused", empty, "refused", false, []string{"db:80", "nothing in db listens"}},
		{"refused, Node's object", "  errno: -111,\n  code: 'ECONNREFUSED',\n  syscall: 'connect',\n  address: '172.20.0.2',\n  port: 5432", down, "refused", false, []string{"172.20.0.2:5432", "does not run"}},
		{"refused, an old address", "Error: connect ECONNREFUSED 172.20.0.9:5432", db, "refused", true, []string{"no container has the address 172.20.0.9 now"}},
		{"no answer", "dial tcp 172.21.0.2:5432: i/o timeout", apart, "unreachable", false, []string{"could not reach 172.21.0.2:5432", "share no network"}},
		{"no answer, near", "dial tcp 172.20.0.2:5432: i/o timeout", db, "", false, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := &container.Evidence{
				ID: "1", Name: "c", Path: "/bin/app", Config: &ctypes.Config{Image: "img"}, HostConfig: &ctypes.HostConfig{NetworkMode: "back"},
				Endpoints: on("back", "172.20.0.3"), State: &ctypes.State{Status: ctypes.StateExited}, Started: true, Endings: []container.Ending{{Code: 1, At: ended}},
			}
			found := why.FromLog(t.Context(), e, []why.Peer{tt.peer}, strings.Split(tt.line, "\n")...)
			if len(found) == 0 {
				if tt.cause != "" {
					t.Fatal("nothing was said")
				}
				return
			}
			f := found[0]
			if f.Cause != tt.cause || f.Probably != tt.likely {
				t.Errorf("cause %q, probably %v\n%s", f.Cause, f.Probably, textOf(f))
			}
			for _, part := range tt.says {
				if !strings.Contains(textOf(f), part) {
					t.Errorf("%q is missing in\n%s", part, textOf(f))
				}
			}
		})
	}
}
