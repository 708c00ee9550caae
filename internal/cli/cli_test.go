package cli_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"muelle/api"
	"muelle/internal/cli"
)

// engine is a daemon of canned answers, by method and path without the version.
type engine struct {
	t        *testing.T
	socket   string
	handlers map[string]http.HandlerFunc
	// max is the newest version it takes.
	max string

	mu   sync.Mutex // the client asks in parallel
	seen []string
}

var versioned = regexp.MustCompile(`^/v(1\.[0-9]+)`)

func newEngine(t *testing.T, answers map[string]string) *engine {
	t.Helper()
	// A socket's path is short; t.TempDir's may not be.
	dir, err := os.MkdirTemp("", "cli")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	e := &engine{t: t, socket: filepath.Join(dir, "s"), handlers: map[string]http.HandlerFunc{}, max: api.DefaultVersion}
	for k, v := range answers {
		e.handlers[k] = func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			status, body, ok := strings.Cut(v, "!")
			var code int
			if n, err := fmt.Sscanf(status, "%d", &code); !ok || err != nil || n != 1 {
				code, body = 200, v
			}
			w.WriteHeader(code)
			_, _ = io.WriteString(w, body)
		}
	}
	l, err := net.Listen("unix", e.socket)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: e}
	done := make(chan struct{})
	go func() { _ = s.Serve(l); close(done) }()
	t.Cleanup(func() { _ = s.Close(); <-done })
	return e
}

func (e *engine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Api-Version", e.max)
	path := r.URL.Path
	if m := versioned.FindStringSubmatch(path); m != nil {
		path = strings.TrimPrefix(path, m[0])
		if m[1] > e.max {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusBadRequest)
			_, _ = fmt.Fprintf(w, `{"message":"client version %s is too new. Maximum supported API version is %s"}`, m[1], e.max)
			return
		}
		e.mu.Lock()
		e.seen = append(e.seen, r.Method+" "+r.URL.String())
		e.mu.Unlock()
	}
	key := r.Method + " " + path
	if h := e.handlers[key]; h != nil {
		h(w, r)
		return
	}
	if path == "/_ping" {
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusNotFound)
	_, _ = fmt.Fprintf(w, `{"message":"page not found: %s"}`, key)
}

type result struct {
	Out, Err string
	Code     int
}

// run runs a command line, as muelle unless name says otherwise.
func (e *engine) run(name, stdin string, args ...string) result {
	e.t.Helper()
	e.t.Setenv("HOME", e.t.TempDir())
	e.t.Setenv("MUELLE_HOST", "unix://"+e.socket)
	e.t.Setenv("DOCKER_HOST", "unix://"+e.socket)
	e.t.Setenv("DOCKER_CONFIG", "")
	e.t.Setenv("TZ", "UTC")
	var out, errOut bytes.Buffer
	code := cli.Run(context.Background(), append([]string{name}, args...), cli.Streams{In: strings.NewReader(stdin), Out: &out, Err: &errOut}, cli.Build{Version: "1.2.3", Commit: "abc"})
	r := result{out.String(), errOut.String(), code}
	e.compare(stdin, args, r)
	return r
}

// compare runs Docker's client with the same arguments where DOCKER_CLIENT names
// one: that is how the expected texts below were made and can be checked.
func (e *engine) compare(stdin string, args []string, got result) {
	e.t.Helper()
	docker := os.Getenv("DOCKER_CLIENT")
	if docker == "" {
		return
	}
	cmd := exec.Command(docker, args...)
	var out, errOut bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errOut
	err := cmd.Run()
	if cmd.ProcessState == nil {
		e.t.Fatal(err)
	}
	want := result{out.String(), errOut.String(), cmd.ProcessState.ExitCode()}
	if d := cmp.Diff(want, got); d != "" {
		e.t.Errorf("docker %s (-docker +muelle):\n%s", strings.Join(args, " "), d)
	}
}

func created(ago time.Duration) string { return fmt.Sprint(time.Now().Add(-ago).Unix()) }

func containers() string {
	return `[{"Id":"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef","Names":["/web","/other/alias"],"Image":"nginx:latest","ImageID":"sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
"Command":"nginx -g 'daemon off;' and more","Created":` + created(3*time.Hour) + `,"Ports":[{"IP":"0.0.0.0","PrivatePort":80,"PublicPort":8080,"Type":"tcp"},{"IP":"::","PrivatePort":80,"PublicPort":8080,"Type":"tcp"},
{"PrivatePort":443,"Type":"tcp"},{"IP":"127.0.0.1","PrivatePort":90,"PublicPort":90,"Type":"udp"},{"IP":"127.0.0.1","PrivatePort":91,"PublicPort":91,"Type":"udp"}],
"Labels":{"b":"2","a":"1","com.example.some-thing":"x"},"State":"running","Status":"Up 3 hours","HostConfig":{"NetworkMode":"n1"},"SizeRw":12345,"SizeRootFs":987654321,
"NetworkSettings":{"Networks":{"n1":{}}},"Mounts":[{"Type":"volume","Name":"a-volume-with-a-long-name","Source":"/v","Destination":"/d","Driver":"local","Mode":"","RW":true,"Propagation":""},{"Type":"bind","Source":"/src","Destination":"/dst","Mode":"","RW":true,"Propagation":""}]},
{"Id":"fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210","Names":["/done"],"Image":"sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","ImageID":"sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
"Command":"true","Created":` + created(49*time.Hour) + `,"Ports":[],"Labels":{},"State":"exited","Status":"Exited (0) 2 days ago","HostConfig":{},"NetworkSettings":{"Networks":{}},"Mounts":[]}]`
}

func images() string {
	return `[{"Id":"sha256:1111111111111111111111111111111111111111111111111111111111111111","RepoTags":["busybox:latest","busybox:1.36"],"RepoDigests":["busybox@sha256:2222222222222222222222222222222222222222222222222222222222222222"],"Created":` + created(20*24*time.Hour) + `,"Size":4261502,"SharedSize":-1,"Containers":-1,"ParentId":"","Labels":null},
{"Id":"sha256:3333333333333333333333333333333333333333333333333333333333333333","RepoTags":[],"RepoDigests":[],"Created":` + created(90*time.Second) + `,"Size":1234567890,"SharedSize":1000,"Containers":2,"ParentId":"","Labels":null},
{"Id":"sha256:4444444444444444444444444444444444444444444444444444444444444444","RepoTags":["127.0.0.1:5050/team/app:v1"],"RepoDigests":[],"Created":0,"Size":999,"SharedSize":-1,"Containers":0,"ParentId":"","Labels":null}]`
}

const networks = `[{"Name":"net10","Id":"aaaabbbbccccddddeeeeffff0000111122223333444455556666777788889999","Created":"2026-01-02T03:04:05.678Z","Scope":"local","Driver":"bridge","EnableIPv4":true,"EnableIPv6":false,"Internal":true,"Labels":{"k":"v"}},
{"Name":"net2","Id":"bbbbbbbbccccddddeeeeffff0000111122223333444455556666777788889999","Created":"2026-01-02T03:04:05Z","Scope":"local","Driver":"bridge","EnableIPv4":true,"EnableIPv6":true}]`

const volumes = `{"Volumes":[{"Name":"v10","Driver":"local","Mountpoint":"/v/v10","Labels":{"a":"b"},"Scope":"local","Options":null},{"Name":"v2","Driver":"local","Mountpoint":"/v/v2","Labels":null,"Scope":"local","Options":null}],"Warnings":null}`

const history = `[{"Id":"sha256:1111111111111111111111111111111111111111111111111111111111111111","Created":946684799,"CreatedBy":"CMD [\"sh\"]","Tags":["busybox:latest"],"Size":0,"Comment":"buildkit"},
{"Id":"<missing>","Created":946684799,"CreatedBy":"RUN /bin/sh -c echo a long\tcommand line with a tab and more","Tags":null,"Size":4261502,"Comment":""}]`

func TestLists(t *testing.T) {
	e := newEngine(t, map[string]string{
		"GET /containers/json": containers(), "GET /images/json": images(), "GET /networks": networks, "GET /volumes": volumes,
		"GET /images/busybox/history": history,
		"GET /info":                   `{"OSType":"linux"}`,
	})
	for _, tc := range []struct {
		name string
		args []string
		want string
	}{
		{"containers", []string{"ps"}, `CONTAINER ID   IMAGE          COMMAND                  CREATED       STATUS                  PORTS                                                                          NAMES
0123456789ab   nginx:latest   "nginx -g 'daemon of…"   3 hours ago   Up 3 hours              127.0.0.1:90-91->90-91/udp, 443/tcp, 0.0.0.0:8080->80/tcp, [::]:8080->80/tcp   web
fedcba987654   bbbbbbbbbbbb   "true"                   2 days ago    Exited (0) 2 days ago                                                                                  done
`},
		{"container ids", []string{"ps", "-q"}, "0123456789ab\nfedcba987654\n"},
		{"container ids in full", []string{"container", "ls", "-q", "--no-trunc"}, "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\nfedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210\n"},
		{"container template", []string{"ps", "--format", "{{.Names}}: {{.Label \"a\"}} {{.LocalVolumes}} {{.Mounts}} {{.Networks}} {{.State}}"}, "web: 1 1 a-volume-with-…,/src n1 running\ndone:  0   exited\n"},
		{"container table", []string{"ps", "--format", `table {{.Names}}\t{{.Label "com.example.some-thing"}}\t{{upper .State}}\t{{.Size}}`}, `NAMES     some thing   STATE     SIZE
web       x            RUNNING   12.3kB (virtual 988MB)
done                   EXITED    0B
`},
		{"container functions", []string{"ps", "--format", `{{join (split .Labels ",") ";"}} {{title .State}} {{lower "ABC"}} [{{pad .State 1 2}}] {{truncate .ID 4}} {{json .Image}}`}, "a=1;b=2;com.example.some-thing=x Running abc [ running  ] 0123 \"nginx:latest\"\n Exited abc [ exited  ] fedc \"bbbbbbbbbbbb\"\n"},
		{"images", []string{"images"}, `REPOSITORY                TAG       IMAGE ID       CREATED              SIZE
busybox                   latest    111111111111   2 weeks ago          4.26MB
busybox                   1.36      111111111111   2 weeks ago          4.26MB
<none>                    <none>    333333333333   About a minute ago   1.23GB
127.0.0.1:5050/team/app   v1        444444444444   ` + epochAge() + `         999B
`},
		{"images with digests", []string{"images", "--digests", "--filter", "reference=busybox"}, `REPOSITORY                TAG       DIGEST                                                                    IMAGE ID       CREATED              SIZE
busybox                   latest    sha256:2222222222222222222222222222222222222222222222222222222222222222   111111111111   2 weeks ago          4.26MB
busybox                   1.36      sha256:2222222222222222222222222222222222222222222222222222222222222222   111111111111   2 weeks ago          4.26MB
<none>                    <none>    <none>                                                                    333333333333   About a minute ago   1.23GB
127.0.0.1:5050/team/app   v1        <none>                                                                    444444444444   ` + epochAge() + `         999B
`},
		{"image template", []string{"image", "ls", "--format", "{{.Repository}}:{{.Tag}} {{.SharedSize}} {{.UniqueSize}} {{.Containers}} {{.VirtualSize}}"}, `busybox:latest N/A N/A N/A 4.262MB
busybox:1.36 N/A N/A N/A 4.262MB
<none>:<none> 1kB 1.235GB 2 1.235GB
127.0.0.1:5050/team/app:v1 N/A N/A 0 999B
`},
		{"history", []string{"history", "busybox"}, `IMAGE          CREATED   CREATED BY                                      SIZE      COMMENT
111111111111   N/A       CMD ["sh"]                                      0B        buildkit
<missing>      N/A       RUN /bin/sh -c echo a long command line with…   4.26MB    
`},
		{"networks", []string{"network", "ls"}, `NETWORK ID     NAME      DRIVER    SCOPE
bbbbbbbbcccc   net2      bridge    local
aaaabbbbcccc   net10     bridge    local
`},
		{"network json", []string{"network", "ls", "--format", "json"}, `{"CreatedAt":"2026-01-02 03:04:05 +0000 UTC","Driver":"bridge","ID":"bbbbbbbbcccc","IPv4":"true","IPv6":"true","Internal":"false","Labels":"","Name":"net2","Scope":"local"}
{"CreatedAt":"2026-01-02 03:04:05.678 +0000 UTC","Driver":"bridge","ID":"aaaabbbbcccc","IPv4":"true","IPv6":"false","Internal":"true","Labels":"k=v","Name":"net10","Scope":"local"}
`},
		{"volumes", []string{"volume", "ls"}, "DRIVER    VOLUME NAME\nlocal     v2\nlocal     v10\n"},
		{"volume table", []string{"volume", "ls", "--format", "table {{.Name}}\t{{.Mountpoint}}\t{{.Labels}}\t{{.Size}}"}, "VOLUME NAME   MOUNTPOINT   LABELS    SIZE\nv2            /v/v2                  N/A\nv10           /v/v10       a=b       N/A\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e.t = t
			got := e.run("docker", "", tc.args...)
			if d := cmp.Diff(result{Out: tc.want}, got); d != "" {
				t.Error(d)
			}
		})
	}
}

// epochAge is what an image of 1970 is said to be.
func epochAge() string {
	return fmt.Sprintf("%d years ago", int(time.Since(time.Unix(0, 0)).Hours())/24/365)
}

func TestErrorsAndCodes(t *testing.T) {
	e := newEngine(t, map[string]string{
		"POST /containers/create":          `404!{"message":"No such image: gone:latest"}`,
		"POST /images/create":              `{"errorDetail":{"message":"manifest unknown"},"error":"manifest unknown"}`,
		"DELETE /containers/nope":          `404!{"message":"No such container: nope"}`,
		"POST /containers/a/stop":          `204!`,
		"POST /containers/b/stop":          `404!{"message":"No such container: b"}`,
		"POST /containers/c/rename":        `409!{"message":"taken"}`,
		"GET /containers/nope/json":        `404!{"message":"No such container: nope"}`,
		"GET /images/nope/json":            `404!{"message":"No such image: nope"}`,
		"GET /networks/nope":               `404!{"message":"network nope not found"}`,
		"GET /volumes/nope":                `404!{"message":"get nope: no such volume"}`,
		"GET /info":                        `{"OSType":"linux"}`,
		"GET /containers/a/changes":        `501!{"message":"unsupported: diff"}`,
		"POST /containers/nope/start":      `404!{"message":"No such container: nope"}`,
		"POST /containers/a/start":         `304!`,
		"DELETE /images/used":              `409!{"message":"conflict: unable to delete used"}`,
		"POST /containers/prune":           `{"ContainersDeleted":["x","y"],"SpaceReclaimed":2048}`,
		"POST /volumes/create":             `{"Name":"v"}`,
		"GET /events":                      `{"Type":"container","Action":"start","Actor":{"ID":"abc","Attributes":{"name":"web","image":"bb"}},"time":1,"timeNano":1000000002}`,
		"GET /containers/a/json":           `{"Id":"aaa","Name":"/a","Config":{"Tty":true},"NetworkSettings":{"Ports":{"80/tcp":[{"HostIp":"0.0.0.0","HostPort":"8080"}],"9/udp":null}}}`,
		"GET /containers/ports/json":       `{"Id":"p","HostConfig":{"PortBindings":{"80/tcp":[{"HostIp":"","HostPort":"81"}]}},"NetworkSettings":{"Networks":{"n":{"IPAddress":"","MacAddress":""}}}}`,
		"GET /containers/aaa/logs":         "line\n",
		"POST /containers/a/wait":          `{"StatusCode":7}`,
		"POST /containers/a/exec":          `409!{"message":"container aaa is not running"}`,
		"POST /networks/create":            `{"Id":"netid","Warning":""}`,
		"DELETE /networks/nope":            `404!{"message":"network nope not found"}`,
		"POST /images/" + "bb" + "/tag":    `201!`,
		"POST /containers/a/update":        `{"Warnings":["careful"]}`,
		"GET /containers/a/top":            `{"Titles":["PID","CMD"],"Processes":[["1","sh"]]}`,
		"GET /containers/nope/stats":       `404!{"message":"No such container: nope"}`,
		"POST /containers/a/kill":          `204!`,
		"DELETE /volumes/v":                `409!{"message":"volume is in use"}`,
		"POST " + api.Prefix + "/run":      `404!{"message":"page not found"}`,
		"POST /containers/stopped/pause":   `409!{"message":"not running"}`,
		"GET /containers/stopped/json":     `{"Id":"sss","Name":"/stopped","State":{"Running":false},"Config":{}}`,
		"POST /containers/stopped/attach":  `409!{"message":"x"}`,
		"POST /containers/stopped/wait":    `{"StatusCode":0}`,
		"GET /containers/stopped/export":   `501!{"message":"unsupported: export"}`,
		"POST /containers/stopped/restart": `500!{"message":"boom"}`,
		"POST /auth":                       `401!{"message":"unauthorized"}`,
		"POST /images/prune":               `{"ImagesDeleted":null,"SpaceReclaimed":0}`,
		"DELETE /images/bb":                `[{"Untagged":"bb:latest"},{"Deleted":"sha256:1"}]`,
		"GET /version":                     `{"Version":"9","ApiVersion":"1.50"}`,
	})
	for _, tc := range []struct {
		name  string
		args  []string
		stdin string
		want  result
	}{
		{"unknown flag", []string{"run", "--foo"}, "", result{Err: "unknown flag: --foo\n\nUsage:  docker run [OPTIONS] IMAGE [COMMAND] [ARG...]\n\nRun 'docker run --help' for more information\n", Code: 125}},
		{"unknown command", []string{"foo"}, "", result{Err: "docker: unknown command: docker foo\n\nRun 'docker --help' for more information\n", Code: 1}},
		{"unknown subcommand", []string{"network", "foo"}, "", result{Err: "docker: unknown command: docker network foo\n\nUsage:  docker network\n\nRun 'docker network --help' for more information\n", Code: 1}},
		{"no argument", []string{"run"}, "", result{Err: "docker: 'docker run' requires at least 1 argument\n\nUsage:  docker run [OPTIONS] IMAGE [COMMAND] [ARG...]\n\nSee 'docker run --help' for more information\n", Code: 1}},
		{"one argument", []string{"rename", "a"}, "", result{Err: "docker: 'docker rename' requires 2 arguments\n\nUsage:  docker rename CONTAINER NEW_NAME\n\nRun 'docker rename --help' for more information\n", Code: 1}},
		{"bad reference", []string{"run", "UPPER"}, "", result{Err: "docker: invalid reference format: repository name (library/UPPER) must be lowercase\n\nRun 'docker run --help' for more information\n", Code: 125}},
		{"no image, no pull", []string{"run", "--pull", "never", "gone"}, "", result{Err: "docker: Error response from daemon: No such image: gone:latest\n\nRun 'docker run --help' for more information\n", Code: 125}},
		{"no image, pull fails", []string{"create", "gone"}, "", result{Err: "Unable to find image 'gone:latest' locally\nmanifest unknown\n", Code: 1}},
		{"stop some", []string{"stop", "a", "b"}, "", result{Out: "a\n", Err: "Error response from daemon: No such container: b\n", Code: 1}},
		{"rm missing", []string{"rm", "nope"}, "", result{Err: "Error response from daemon: No such container: nope\n", Code: 1}},
		{"rm missing by force", []string{"rm", "-f", "nope"}, "", result{Err: "Error response from daemon: No such container: nope\n", Code: 0}},
		{"rename", []string{"rename", "c", "d"}, "", result{Err: "Error response from daemon: taken\nError: failed to rename container named c\n", Code: 1}},
		{"inspect nothing", []string{"inspect", "nope"}, "", result{Out: "[]\n", Err: "Error: No such object: nope\n", Code: 1}},
		{"inspect nothing by template", []string{"inspect", "-f", "{{.Id}}", "nope"}, "", result{Out: "\n", Err: "Error: No such object: nope\n", Code: 1}},
		{"unsupported", []string{"diff", "a"}, "", result{Err: "Error response from daemon: unsupported: diff\n", Code: 1}},
		{"start some", []string{"start", "a", "nope"}, "", result{Out: "a\n", Err: "Error response from daemon: No such container: nope\nError: failed to start containers: nope\n", Code: 1}},
		{"conflict", []string{"rmi", "used"}, "", result{Err: "Error response from daemon: conflict: unable to delete used\n", Code: 1}},
		{"rmi", []string{"rmi", "bb"}, "", result{Out: "Untagged: bb:latest\nDeleted: sha256:1\n"}},
		{"prune", []string{"container", "prune", "-f"}, "", result{Out: "Deleted Containers:\nx\ny\n\nTotal reclaimed space: 2.048kB\n"}},
		{"prune refused", []string{"container", "prune"}, "n\n", result{Out: "WARNING! This will remove all stopped containers.\nAre you sure you want to continue? [y/N] "}},
		{"events", []string{"events", "--until", "1"}, "", result{Out: "1970-01-01T00:00:01.000000002Z container start abc (image=bb, name=web)\n"}},
		{"events by template", []string{"events", "--until", "1", "--format", "{{.Type}} {{.Actor.ID}}"}, "", result{Out: "container abc\n"}},
		{"events by Docker's old fields", []string{"events", "--until", "1", "--format", "{{.Status}} {{.ID}} {{.From}}"}, "", result{Out: "start abc bb\n"}},
		{"events as JSON", []string{"events", "--until", "1", "--format", "json"}, "", result{Out: `{"status":"start","id":"abc","from":"bb","Type":"container","Action":"start","Actor":{"ID":"abc","Attributes":{"image":"bb","name":"web"}},"time":1,"timeNano":1000000002}` + "\n"}},
		{"unset address", []string{"inspect", "-f", `{{.HostConfig.PortBindings}}{{range .HostConfig.PortBindings}}{{range .}}{{if .HostIP}}no{{end}}{{end}}{{end}}{{with .NetworkSettings.Networks.n}}[{{.IPAddress}}{{.MacAddress}}]{{end}}`, "ports"}, "", result{Out: "map[80/tcp:[{ 81}]][]\n"}},
		{"address", []string{"inspect", "-f", `{{(index (index .NetworkSettings.Ports "80/tcp") 0).HostIP}}`, "a"}, "", result{Out: "0.0.0.0\n"}},
		{"bad events template", []string{"events", "--format", "{{.Nope}}"}, "", result{Err: "Error parsing format: template: :1:2: executing \"\" at <.Nope>: can't evaluate field Nope in type *cli.eventRow\n", Code: 64}},
		{"port", []string{"port", "a"}, "", result{Out: "80/tcp -> 0.0.0.0:8080\n"}},
		{"one port", []string{"port", "a", "80"}, "", result{Out: "0.0.0.0:8080\n"}},
		{"no such port", []string{"port", "a", "81"}, "", result{Err: "Error: No public port '81' published for a\n", Code: 1}},
		{"logs", []string{"logs", "a"}, "", result{Out: "line\n"}},
		{"wait", []string{"wait", "a"}, "", result{Out: "7\n"}},
		{"exec in a stopped one", []string{"exec", "a", "true"}, "", result{Err: "Error response from daemon: container aaa is not running\n", Code: 1}},
		{"network rm", []string{"network", "rm", "nope"}, "", result{Err: "Error response from daemon: network nope not found\nexit status 1\n", Code: 1}},
		{"volume rm", []string{"volume", "rm", "v"}, "", result{Err: "Error response from daemon: volume is in use\n", Code: 1}},
		{"update", []string{"update", "-m", "64m", "a"}, "", result{Out: "a\ncareful\n"}},
		{"top", []string{"top", "a"}, "", result{Out: "PID                 CMD\n1                   sh\n"}},
		{"attach to a stopped one", []string{"attach", "stopped"}, "", result{Err: "You cannot attach to a stopped container, start it first\n", Code: 1}},
		{"bad template", []string{"inspect", "-f", "{{.", "a"}, "", result{Err: "template parsing error: template: :1: illegal number syntax: \".\"\n", Code: 64}},
		{"bad filter", []string{"images", "--filter", "x"}, "", result{Err: "invalid argument \"x\" for \"-f, --filter\" flag: bad format of filter (expected name=value)\n\nUsage:  docker images [OPTIONS] [REPOSITORY[:TAG]]\n\nRun 'docker images --help' for more information\n", Code: 125}},
		{"log level", []string{"-l", "loud", "ps"}, "", result{Err: "Unable to parse logging level: loud\n", Code: 1}},
		{"inspect an empty name", []string{"inspect", ""}, "", result{Out: "[]\n", Err: "invalid container name or ID: value is empty\n", Code: 1}},
		{"inspect an empty name of a network", []string{"network", "inspect", ""}, "", result{Out: "[]\n", Err: "invalid network name or ID: value is empty\n", Code: 1}},
		{"no terminal", []string{"run", "-it", "x"}, "", result{Err: "the input device is not a TTY\n", Code: 1}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e.t = t
			got := e.run("docker", tc.stdin, tc.args...)
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

// TestRunAtOnce is the way of run with Muelle's daemon.
func TestRunAtOnce(t *testing.T) {
	e := newEngine(t, nil)
	var asked api.RunRequest
	e.handlers["POST "+api.Prefix+"/run"] = func(w http.ResponseWriter, r *http.Request) {
		if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
			t.Error(err)
		}
		if asked.Config.Cmd[0] == "nosuch" {
			w.Header().Set(api.HeaderRunStage, "start")
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"message":"exec: \"nosuch\": executable file not found in $PATH"}`)
			return
		}
		if asked.Detach {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"Id":"theid","Warnings":["beware"]}`)
			return
		}
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = conn.Close() }()
		_, _ = rw.WriteString("HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n" + api.HeaderContainerID + ": theid\r\n" + api.HeaderWarning + ": beware\r\n\r\n")
		frame := func(stream byte, text string) {
			head := [8]byte{0: stream}
			binary.BigEndian.PutUint32(head[4:], uint32(len(text)))
			_, _ = rw.Write(append(head[:], text...))
			_ = rw.Flush()
		}
		frame(1, "to out\n")
		frame(2, "to err\n")
		if asked.Stdin {
			in, err := io.ReadAll(rw.Reader)
			if err != nil {
				t.Error(err)
			}
			frame(1, string(in))
		}
		frame(api.RunFrame, `{"ExitCode":7}`)
	}
	t.Setenv("DOCKER_CLIENT", "")
	if d := cmp.Diff(result{"to out\nhello", "WARNING: beware\nto err\n", 7}, e.run("muelle", "hello", "run", "--rm", "-i", "bb", "cat")); d != "" {
		t.Error(d)
	}
	if !asked.HostConfig.AutoRemove || !asked.Stdin || !asked.Stdout || !asked.Stderr || asked.Detach {
		t.Errorf("asked for %+v", asked)
	}
	if d := cmp.Diff(result{"theid\n", "WARNING: beware\n", 0}, e.run("muelle", "", "run", "-d", "bb", "sleep")); d != "" {
		t.Error(d)
	}
	want := result{"", "muelle: Error response from daemon: exec: \"nosuch\": executable file not found in $PATH\n\nRun 'muelle run --help' for more information\n", 127}
	if d := cmp.Diff(want, e.run("muelle", "", "run", "bb", "nosuch")); d != "" {
		t.Error(d)
	}
}

// TestCIDFile holds that the id is in its file when the container starts, and stays
// there when it does not.
func TestCIDFile(t *testing.T) {
	t.Setenv("DOCKER_CLIENT", "")
	cid := filepath.Join(t.TempDir(), "cid")
	e := newEngine(t, map[string]string{"POST /containers/create": `{"Id":"theid"}`})
	e.handlers["POST /containers/theid/start"] = func(w http.ResponseWriter, _ *http.Request) {
		if b, err := os.ReadFile(cid); err != nil || string(b) != "theid" {
			t.Errorf("cidfile at the start: %q, %v", b, err)
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"message":"exec: \"nosuch\": executable file not found in $PATH"}`)
	}
	if got := e.run("muelle", "", "run", "-d", "--cidfile", cid, "bb", "nosuch"); got.Code != 127 || got.Out != "theid\n" {
		t.Errorf("%+v", got)
	}
	if b, err := os.ReadFile(cid); err != nil || string(b) != "theid" {
		t.Errorf("cidfile after the failure: %q, %v", b, err)
	}
	if got := e.run("muelle", "", "run", "--cidfile", cid, "bb", "true"); got.Code != 125 || !strings.Contains(got.Err, "container ID file found") {
		t.Errorf("%+v", got)
	}
}

func TestOlderServer(t *testing.T) {
	e := newEngine(t, map[string]string{"GET /containers/json": "[]"})
	e.max = "1.41"
	if got := e.run("muelle", "", "ps", "-q"); got.Code != 0 {
		t.Fatalf("%+v", got)
	}
	if want := "GET /v1.41/containers/json"; len(e.seen) == 0 || e.seen[0] != want {
		t.Errorf("asked %v, want %s", e.seen, want)
	}
	t.Setenv("DOCKER_CLIENT", "")
	e.max = "1.20"
	if got := e.run("muelle", "", "ps", "-q"); got.Code != 1 || !strings.Contains(got.Err, "is too new") {
		t.Errorf("%+v", got)
	}
}

func TestUnreachable(t *testing.T) {
	e := newEngine(t, nil)
	e.socket += "-gone"
	t.Setenv("DOCKER_CLIENT", "")
	want := result{Err: "cannot reach muelled at unix://" + e.socket + ": connect: no such file or directory\n", Code: 1}
	if d := cmp.Diff(want, e.run("muelle", "", "ps")); d != "" {
		t.Error(d)
	}
	want.Err = "Cannot connect to the Docker daemon at unix://" + e.socket + ". Is the docker daemon running?\n"
	if d := cmp.Diff(want, e.run("docker", "", "ps")); d != "" {
		t.Error(d)
	}
}

// TestEveryCommandHelps holds that each command of Docker's is here, but for Swarm,
// plugins, manifests and checkpoints.
func TestEveryCommandHelps(t *testing.T) {
	e := newEngine(t, nil)
	t.Setenv("DOCKER_CLIENT", "")
	for _, line := range strings.Split(strings.TrimSpace(commands), "\n") {
		t.Run(line, func(t *testing.T) {
			e.t = t
			got := e.run("muelle", "", append(strings.Fields(line), "--help")...)
			if got.Code != 0 || !strings.HasPrefix(got.Out, "Usage:  muelle "+line) {
				t.Errorf("%+v", got)
			}
		})
	}
}

const commands = `
attach
commit
container attach
container commit
container cp
container create
container diff
container exec
container export
container inspect
container kill
container logs
container ls
container pause
container port
container prune
container rename
container restart
container rm
container run
container start
container stats
container stop
container top
container unpause
container update
container wait
context create
context export
context import
context inspect
context ls
context rm
context show
context update
context use
cp
create
diff
events
exec
export
history
image history
image import
image inspect
image load
image ls
image prune
image pull
image push
image rm
image save
image tag
images
import
info
inspect
kill
load
login
logout
logs
network connect
network create
network disconnect
network inspect
network ls
network prune
network rm
pause
port
ps
pull
push
rename
restart
rm
rmi
run
save
search
start
stats
stop
system df
system events
system info
system prune
tag
top
unpause
update
version
volume create
volume inspect
volume ls
volume prune
volume rm
volume update
wait
`
