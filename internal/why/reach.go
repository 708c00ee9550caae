package why

import (
	"io"
	"os"
	"path"
	"regexp"
	"strings"

	ctypes "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
)

var (
	itself = regexp.MustCompile(`(?i)(?:\b(?:localhost|127\.0\.0\.1)|(?:^|[\s\["'(])::1)\b(?:[\]"]?(?::|,? port:? )(\d+))?`)
	server = regexp.MustCompile(`(?i)(?:^|[\s"'(/@\[])([a-z0-9][a-z0-9._-]*|\d+\.\d+\.\d+\.\d+)\]?:(\d{1,5})\b`)
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
	at := "a server"
	if m := server.FindStringSubmatch(line); m != nil {
		at = m[1] + ":" + m[2]
	}
	return f.finding("refused", "It tried to connect to %s, and nothing listened there at that moment.", at).probably().
		do("If that service was only slow to start: give it a health check, and wait for it (in Compose depends_on: {SERVICE: {condition: service_healthy}})").
		do("If not: between containers the port is the one that the program listens on, not the published one, and it must listen on 0.0.0.0, not on 127.0.0.1")
}

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
