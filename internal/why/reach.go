package why

import (
	"io"
	"net/netip"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	ctypes "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
)

var (
	itself = lazy(`(?i)(?:\b(?:localhost|127\.0\.0\.1)|(?:^|[\s\["'(])::1)\b(?:[\]"]?(?::|,? port:? )(\d+))?`)
	server = lazy(`(?i)(?:^|[\s"'(/@\[])([a-z0-9][a-z0-9._-]*|\d+\.\d+\.\d+\.\d+)\]?:(\d{1,5})\b`)
)

// refused tells of a server that did not listen where the program looked for it.
func (f *facts) refused(line string) *builder {
	network := f.e.HostConfig.NetworkMode
	if m := itself.FindStringSubmatch(line); m != nil && !network.IsHost() {
		at := "localhost"
		if m[1] != "" {
			at += ":" + m[1]
		}
		b := f.finding("refused", "It tried to connect to %s, which inside a container is the container itself, and nothing listens there.", at).probably()
		if network.IsBridge() {
			b.because("configuration", "the container is on the default bridge, where containers have no names").
				do("Put both on a network of their own: muelle network create NET, then --network NET")
		}
		return b.do("Name the other container or Compose service in the place of localhost, with the port that it listens on inside").
			do("For a program of the host: host.docker.internal, with --add-host host.docker.internal:host-gateway")
	}
	host, port := f.serverIn(line)
	if host == "" {
		return f.notListening("a server")
	}
	at := host
	if port != "" {
		at += ":" + port
	}
	p := f.peer(host)
	if p == nil {
		b := f.notListening(at)
		if _, err := netip.ParseAddr(host); err == nil && f.peers != nil {
			b.because("networks", "no container has the address %s now; addresses change, names do not", host)
		}
		return b
	}
	tried := "It could not connect to " + at
	if b := f.apart("refused", tried, host, p); b != nil {
		return b
	}
	return f.peerRefused(tried, host, port, p)
}

func (f *facts) notListening(at string) *builder {
	return f.finding("refused", "It tried to connect to %s, and nothing listened there at that moment.", at).probably().
		do("If that service was only slow to start: give it a health check, and wait for it (in Compose depends_on: {SERVICE: {condition: service_healthy}})").
		do("If not: between containers the port is the one that the program listens on, not the published one, and it must listen on 0.0.0.0, not on 127.0.0.1")
}

// peerRefused tells why a container that runs and can be reached did not answer, by
// what listens in it now.
func (f *facts) peerRefused(tried, host, port string, p *peer) *builder {
	wanted, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return f.notListening(host)
	}
	var others []string
	onlyItself := false
	for _, l := range p.listens() {
		if l.Port() != uint16(wanted) {
			if !l.Addr().IsLoopback() {
				others = append(others, strconv.Itoa(int(l.Port())))
			}
			continue
		}
		if l.Addr().IsLoopback() {
			onlyItself = true
			continue
		}
		b := f.finding("refused", "%s: nothing listened there yet. %s does now.", tried, p.called(host)).
			because("sockets", "%s listens on %s", p.name, l)
		if at, later := f.later(p); later {
			b.because("state", "%s started at %s, after this container had ended", p.name, stamp(at))
		}
		return b.do("Wait for it: give it a health check, and in Compose depends_on: {%s: {condition: service_healthy}}; or let the program try again", orWord(p.service, p.name)).
			do("muelle restart %s", f.e.Name)
	}
	if onlyItself {
		return f.finding("refused", "%s: %s listens on that port for itself only (127.0.0.1).", tried, p.called(host)).
			because("sockets", "%s listens on 127.0.0.1:%s", p.name, port).
			do("Let its program listen on 0.0.0.0")
	}
	b := f.finding("refused", "%s: %s runs, and nothing in it listens on port %s.", tried, p.called(host), port)
	slices.Sort(others)
	if others = slices.Compact(others); len(others) > 0 {
		b.because("sockets", "%s listens on %s", p.name, strings.Join(others, ", "))
	} else {
		b.because("sockets", "nothing in %s listens for others", p.name)
	}
	for inside, bindings := range p.ports {
		for _, published := range bindings {
			if published.HostPort == port && strconv.Itoa(int(inside.Num())) != port {
				return b.because("ports", "%s is the host's port for its port %d", port, inside.Num()).
					do("Between containers, the port inside counts: %s:%d", host, inside.Num())
			}
		}
	}
	if h := p.state.Health; h != nil {
		b.because("health check", "%s is %s", p.name, h.Status)
	}
	return b.do("See what it does: muelle logs %s", p.name)
}

// noAnswer tells of a server that cannot be reached, or does not say no.
func (f *facts) noAnswer(line string) *builder {
	host, port := f.serverIn(line)
	p := f.peer(host)
	if host == "" || p == nil {
		return nil
	}
	if port != "" {
		port = ":" + port
	}
	return f.apart("unreachable", "It could not reach "+host+port, host, p)
}

// elsewhere are other ways to write a server: psycopg's and the like.
var elsewhere = []*pattern{
	lazy(`server at "([^"]+)"(?: \([^)]*\))?, port (\d+)`),
	lazy(`host='([^']+)', port=(\d+)`),
	lazy(`to host "?([A-Za-z0-9._-]+)"? port (\d+)`),
	lazy(`server on '([A-Za-z0-9._-]+?)(?::(\d+))?'`),
}

// serverIn finds the host and port that a line is about; where the line has none, those
// that Node prints below it.
func (f *facts) serverIn(line string) (host, port string) {
	for _, re := range elsewhere {
		if m := re.FindStringSubmatch(line); m != nil {
			return m[1], m[2]
		}
	}
	if m := server.FindStringSubmatch(line); m != nil {
		return m[1], m[2]
	}
	for _, l := range f.logs {
		if m := property.FindStringSubmatch(l); m != nil {
			if m[1] == "port" {
				port = m[2]
			} else {
				host = m[2]
			}
		}
	}
	return host, port
}

var property = lazy(`^\s*(address|hostname|port): '?([A-Za-z0-9.:_-]+?)'?,?$`)

// isFolder tells of a file that was to be mounted and is a folder: where the host has
// no file of that name, -v makes a folder.
func (f *facts) isFolder(line string) *builder {
	p := f.pathIn(line)
	for _, m := range f.e.Mounts {
		if p != "" && m.Destination != p || p == "" && path.Ext(m.Destination) == "" || !emptyFolder(m) {
			continue
		}
		return f.finding("mounted-folder", "%s is an empty folder, where its program wants a file: %s was no file on this host when the container was created, so -v made a folder of it.", m.Destination, m.Source).probably().
			because("mounts", "%s at %s: an empty folder", m.Source, m.Destination).
			do("Remove the folder, put the file in its place, and start again: rmdir %s", m.Source).
			do("To be told next time: --mount type=bind,src=%s,dst=%s makes nothing", m.Source, m.Destination)
	}
	return nil
}

func emptyFolder(m ctypes.MountPoint) bool {
	if m.Type != mount.TypeBind {
		return false
	}
	dir, err := os.Open(m.Source)
	if err != nil {
		return false
	}
	defer dir.Close()
	_, err = dir.Readdirnames(1)
	return err == io.EOF
}

// noFile tells of a file that the program looked for, if it is not there.
func (f *facts) noFile(line string) *builder {
	p := f.pathIn(line)
	if p == "" {
		return nil
	}
	_, at := f.ownerOf(p)
	if at == "" || at == p {
		return nil // it cannot be looked at, or it is there now
	}
	b := f.finding("missing-file", "It looked for %s, which is not there.", p).probably().
		because("files", "of its path, only %s is there", at)
	if m := f.mountOf(p); m != nil {
		return b.because("mounts", "%s is mounted at %s and hides what the image has there", source(*m), m.Destination).
			do("Put the file into %s, or mount that elsewhere", source(*m))
	}
	return b.do("In the Dockerfile: COPY it to %s (and see that .dockerignore does not name it)", p).
		do("Or mount it: -v \"$PWD/%s:%s:ro\"", strings.TrimPrefix(path.Base(p), "/"), p)
}
