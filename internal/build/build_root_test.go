//go:build root

package build_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/jsonstream"

	"muelle/internal/build"
	"muelle/internal/buildclient"
	"muelle/internal/linux/du"
)

func read(t testing.TB, elem ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(elem...))
	must(t, err)
	return string(b)
}

func TestBuild(t *testing.T) {
	w := newWorld(t)
	w.base()
	t.Run("image", w.sub(testImage))
	t.Run("cache", w.sub(testCache))
	t.Run("multi-stage", w.sub(testStages))
	t.Run("failing RUN", w.sub(testFailure))
	t.Run("mounts", w.sub(testMounts))
	t.Run("dockerignore", w.sub(testIgnore))
	t.Run("environment of RUN", w.sub(testEnvironment))
	t.Run("network", w.sub(testNetwork))
	t.Run("symlink attacks", w.sub(testSymlinks))
	t.Run("entitlements", w.sub(testEntitlements))
	t.Run("classic", w.sub(testClassic))
	t.Run("cancel", w.sub(testCancel))
	t.Run("outputs", w.sub(testOutputs))
	t.Run("syntax", w.sub(testSyntax))
	t.Run("names", w.sub(testNames))
	t.Run("base layers once", w.sub(testLayersOnce))
	t.Run("prune", w.sub(testPrune))
}

func (w *world) sub(f func(*world)) func(*testing.T) {
	return func(t *testing.T) {
		inner := *w
		inner.TB = t
		f(&inner)
	}
}

// built fails the test unless the build succeeded.
func (w *world) built(o outcome) outcome {
	w.Helper()
	if o.err != nil {
		w.Fatalf("%v\n%s", o.err, o.log)
	}
	return o
}

func testImage(w *world) {
	ctx := context.Background()
	res := w.built(w.build(files{"Dockerfile": "FROM busybox\nARG V=1\nENV A=$V\nRUN echo $A >/a\nUSER u\nWORKDIR /w\nLABEL l=m\nEXPOSE 80\nCMD [\"x\"]\n"},
		buildclient.Options{Tags: []string{"one", "localhost:5000/two:3"}, Args: map[string]string{"V": "7"}, Labels: map[string]string{"k": "v"}}))
	for _, name := range []string{"one", "one:latest", "localhost:5000/two:3", res.ImageID} {
		img, err := w.images.Get(ctx, name)
		must(w.TB, err)
		if img.ID.String() != res.ImageID {
			w.Errorf("%s is %s, want %s", name, img.ID, res.ImageID)
		}
	}
	img, err := w.images.Get(ctx, "one")
	must(w.TB, err)
	c := img.Config.Config
	if c.User != "u" || c.WorkingDir != "/w" || !slices.Equal(c.Cmd, []string{"x"}) || !slices.Contains(c.Env, "A=7") {
		w.Errorf("configuration: %+v", c)
	}
	if diff := cmp.Diff(map[string]string{"k": "v", "l": "m"}, c.Labels); diff != "" {
		w.Errorf("labels: -want +got\n%s", diff)
	}
	dirs, err := w.images.Lower(ctx, img, "container")
	must(w.TB, err)
	defer w.images.Release("container")
	found := ""
	for _, d := range dirs {
		if b, err := os.ReadFile(filepath.Join(d, "a")); err == nil {
			found = string(b)
		}
		for _, stub := range []string{"etc/resolv.conf", "etc/hosts"} {
			if _, err := os.Lstat(filepath.Join(d, stub)); err == nil {
				w.Errorf("stub %s is left in %s", stub, d)
			}
		}
	}
	if found != "7\n" {
		w.Errorf("/a is %q", found)
	}
}

func testCache(w *world) {
	f := files{"Dockerfile": "FROM busybox\nCOPY a /a\nRUN echo once\n", "a": "1"}
	first := w.built(w.build(f, buildclient.Options{}))
	second := w.built(w.build(f, buildclient.Options{}))
	if strings.Count(second.log, " CACHED\n") != 2 || ran(second.log, "once") {
		w.Errorf("the second build was not cached:\n%s", second.log)
	}
	if first.ImageID != second.ImageID {
		w.Errorf("got %s, then %s", first.ImageID, second.ImageID)
	}
	third := w.built(w.build(f, buildclient.Options{NoCache: true}))
	if !ran(third.log, "once") {
		w.Errorf("--no-cache used the cache:\n%s", third.log)
	}
	f["a"] = "2"
	if fourth := w.built(w.build(f, buildclient.Options{})); fourth.ImageID == first.ImageID {
		w.Error("a changed file gave the same image")
	}
}

// ran tells whether a step has printed the line.
func ran(log, line string) bool {
	return regexp.MustCompile(`(?m)^#\d+ \d+\.\d+ ` + line + `$`).MatchString(log)
}

func testStages(w *world) {
	dir, res := w.export(files{
		"Dockerfile": "FROM busybox AS make\nRUN mkdir /o && echo made >/o/f\nFROM busybox AS other\nRUN exit 9\nFROM scratch\nCOPY --from=make /o /\nCOPY --from=busybox /etc/passwd /p\n",
	}, buildclient.Options{})
	w.built(res)
	if got := read(w.TB, dir, "f"); got != "made\n" {
		w.Errorf("got %q", got)
	}
	if strings.Contains(res.log, "exit 9") {
		w.Error("a stage that nothing needs was built")
	}
	read(w.TB, dir, "p")
	dir, res = w.export(files{"Dockerfile": "FROM busybox AS a\nRUN echo a >/only-a\nFROM scratch AS b\nCOPY --from=a /only-a /x\nFROM scratch\n"}, buildclient.Options{Target: "b"})
	w.built(res)
	read(w.TB, dir, "x")
}

func testFailure(w *world) {
	res := w.build(files{"Dockerfile": "FROM busybox\nRUN echo before && exit 42\n"}, buildclient.Options{})
	failed := new(buildclient.Failure)
	if !errors.As(res.err, &failed) {
		w.Fatalf("got %v", res.err)
	}
	want := "failed to solve: process \"/bin/sh -c echo before && exit 42\" did not complete successfully: exit code: 42"
	if failed.Error() != want {
		w.Errorf("got  %q\nwant %q", failed.Error(), want)
	}
	if !strings.Contains(failed.Excerpt, "Dockerfile:2\n") || !strings.Contains(failed.Excerpt, "   2 | >>> RUN echo before && exit 42\n") {
		w.Errorf("excerpt:\n%s", failed.Excerpt)
	}
	if !strings.Contains(res.log, "before") {
		w.Errorf("output is missing:\n%s", res.log)
	}
	for _, tc := range []struct{ name, dockerfile, want string }{
		{"no such program", "FROM busybox\nRUN [\"/nosuch\"]\n", "/nosuch"},
		{"no such image", "FROM localhost:1/nosuch\nRUN x\n", "localhost:1/nosuch"},
		{"no such file", "FROM scratch\nCOPY nosuch /\n", "not found"},
		{"no such stage", "FROM busybox\nCOPY --from=localhost:1/x /a /b\n", "localhost:1/x"},
		{"killed by a signal", "FROM busybox\nRUN sh -c 'kill -9 $$'; exit $?\n", "exit code: 137"},
	} {
		res := w.build(files{"Dockerfile": tc.dockerfile}, buildclient.Options{})
		if res.err == nil || !strings.Contains(res.err.Error(), tc.want) {
			w.Errorf("%s: got %v", tc.name, res.err)
		}
	}
}

func testMounts(w *world) {
	secret := filepath.Join(w.dir, "secret")
	must(w.TB, os.WriteFile(secret, []byte("hush"), 0o600))
	o := buildclient.Options{Secrets: []buildclient.Secret{{ID: "s", Source: secret}}}
	count := "FROM busybox\nARG N\nRUN --mount=type=cache,target=/c echo $N >>/c/log && cp /c/log /log\nFROM scratch\nCOPY --from=0 /log /\n"
	for i, n := range []string{"1", "2", "3"} {
		o.Args = map[string]string{"N": n}
		dir, res := w.export(files{"Dockerfile": count}, o)
		w.built(res)
		if got := len(strings.Fields(read(w.TB, dir, "log"))); got != i+1 {
			w.Errorf("cache mount: %d lines after %d builds", got, i+1)
		}
	}
	dir, res := w.export(files{
		"in": "context", "Dockerfile": strings.Join([]string{
			"FROM busybox AS b",
			"RUN --mount=type=secret,id=s cat /run/secrets/s >/secret",
			"RUN --mount=type=bind,target=/ctx cat /ctx/in >/bound && ! touch /ctx/x",
			"RUN --mount=type=bind,from=busybox,source=/etc,target=/e cat /e/passwd >/other",
			"RUN --mount=type=tmpfs,target=/t echo x >/t/f && grep -q ' /t tmpfs' /proc/mounts",
			"RUN test ! -e /run/secrets && test ! -e /ctx && test ! -e /t && test ! -e /c",
			"FROM scratch", "COPY --from=b /secret /bound /other /", "",
		}, "\n"),
	}, o)
	w.built(res)
	if read(w.TB, dir, "secret") != "hush" || read(w.TB, dir, "bound") != "context" {
		w.Error("contents differ")
	}
	res = w.build(files{"Dockerfile": "FROM busybox\nRUN --mount=type=secret,id=none,required=true true\n"}, buildclient.Options{})
	if res.err == nil || !strings.Contains(res.err.Error(), "secret none: not found") {
		w.Errorf("missing secret: %v", res.err)
	}
}

func testIgnore(w *world) {
	f := files{
		"Dockerfile": "FROM scratch\nCOPY . /\n", ".dockerignore": "*.log\n!keep.log\nsub/*\nDockerfile*\n.dockerignore\n",
		"a.log": "", "keep.log": "", "sub/x": "", "b": "", "Dockerfile.two": "FROM scratch\nCOPY . /\n", "Dockerfile.two.dockerignore": "b\n",
	}
	dir, res := w.export(f, buildclient.Options{})
	w.built(res)
	if diff := cmp.Diff([]string{"b", "keep.log"}, list(w.TB, dir)); diff != "" {
		w.Errorf("-want +got\n%s", diff)
	}
	dir, res = w.export(f, buildclient.Options{Dockerfile: "Dockerfile.two"})
	w.built(res)
	got := list(w.TB, dir)
	if slices.Contains(got, "b") || !slices.Contains(got, "a.log") {
		w.Errorf("Dockerfile.two.dockerignore: got %v", got)
	}
}

func list(t testing.TB, dir string) []string {
	t.Helper()
	var out []string
	must(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, rerr := filepath.Rel(dir, path)
			out, err = append(out, rel), rerr
		}
		return err
	}))
	return out
}

func testEnvironment(w *world) {
	dir, res := w.export(files{"Dockerfile": `FROM busybox AS b
ENV E=env
ARG A=arg
USER u
WORKDIR /tmp/made/here
RUN pwd >/tmp/pwd && id -u >/tmp/uid && echo $E $A >/tmp/env && hostname >/tmp/hostname
USER root
RUN grep -c . /proc/self/cgroup >/dev/null; grep -i seccomp: /proc/self/status >/tmp/seccomp; grep CapEff /proc/self/status >/tmp/caps
RUN stat -c %u /tmp/made/here >/tmp/owner; ls /proc/self/fd | wc -l >/tmp/fds; cat </dev/stdin | wc -c >/tmp/stdin
FROM scratch
COPY --from=b /tmp /
`}, buildclient.Options{Args: map[string]string{"A": "given"}})
	w.built(res)
	for name, want := range map[string]string{
		"pwd": "/tmp/made/here\n", "uid": "1000\n", "env": "env given\n", "hostname": "buildkitsandbox\n",
		"seccomp": "Seccomp:\t2\n", "caps": "CapEff:\t00000000a80425fb\n", "stdin": "0\n",
	} {
		if got := read(w.TB, dir, name); got != want {
			w.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

func testNetwork(w *world) {
	f := func(flag string) files {
		return files{"Dockerfile": "FROM busybox AS b\nRUN " + flag + " ip addr >/ip; cat /etc/resolv.conf >/resolv; cat /etc/hosts >/hosts\nFROM scratch\nCOPY --from=b /ip /resolv /hosts /\n"}
	}
	dir, res := w.export(f(""), buildclient.Options{ExtraHosts: []string{"db:10.1.2.3"}})
	w.built(res)
	if ip := read(w.TB, dir, "ip"); !strings.Contains(ip, "eth0") || !strings.Contains(ip, "inet 1") {
		w.Errorf("bridge: %s", ip)
	}
	if hosts := read(w.TB, dir, "hosts"); !strings.Contains(hosts, "10.1.2.3") || !strings.Contains(hosts, "db") {
		w.Errorf("hosts: %s", hosts)
	}
	if got := read(w.TB, dir, "resolv"); !strings.Contains(got, "nameserver 192.0.2.53") {
		w.Errorf("resolv.conf: %s", got)
	}
	dir, res = w.export(f("--network=none"), buildclient.Options{})
	w.built(res)
	if ip := read(w.TB, dir, "ip"); strings.Contains(ip, "eth0") {
		w.Errorf("none: %s", ip)
	}
	dir, res = w.export(f(""), buildclient.Options{Network: "host"})
	w.built(res)
	if ip := read(w.TB, dir, "ip"); !strings.Contains(ip, "muelle") && strings.Contains(ip, "eth0@") {
		w.Errorf("host: %s", ip)
	}
	if res := w.build(f("--network=host"), buildclient.Options{}); res.err == nil {
		w.Error("host network without being allowed")
	}
}

// A stage that plants links must reach nothing outside of its own root.
func testSymlinks(w *world) {
	bait := filepath.Join(w.dir, "bait")
	must(w.TB, os.MkdirAll(bait, 0o755))
	must(w.TB, os.WriteFile(filepath.Join(bait, "secret"), []byte("host"), 0o644))
	plant := "FROM busybox AS evil\nRUN ln -s " + bait + " /link && mkdir /d && ln -s " + bait + "/secret /d/f && ln -s / /root-link\n"
	for _, tc := range []struct{ name, dockerfile string }{
		// CVE-2024-23651: sources of mounts and of copies that are links.
		{"mount source", plant + "FROM busybox\nRUN --mount=type=bind,from=evil,source=/link,target=/m cat /m/secret\n"},
		{"cache source", plant + "FROM busybox\nRUN --mount=type=cache,from=evil,source=/link,target=/m cat /m/secret\n"},
		{"copy through a link", plant + "FROM busybox\nCOPY --from=evil /link/secret /x\n"},
		{"copy a link's target", plant + "FROM busybox\nCOPY --from=evil /d/f/ /x/\nRUN grep host /x/f\n"},
	} {
		if res := w.build(files{"Dockerfile": tc.dockerfile}, buildclient.Options{}); res.err == nil {
			w.Errorf("%s: reached the host's file\n%s", tc.name, res.log)
		}
	}
	// CVE-2024-23652: the cleaner of mount stubs must not follow a link out of the
	// root, nor remove what is not a stub.
	victim := filepath.Join(w.dir, "victim")
	must(w.TB, os.MkdirAll(victim, 0o755))
	must(w.TB, os.WriteFile(filepath.Join(victim, "empty"), nil, 0o644))
	w.built(w.build(files{"Dockerfile": "FROM busybox\nRUN --mount=type=tmpfs,target=/p/empty rmdir /p 2>/dev/null; true\nRUN --mount=type=tmpfs,target=/q/empty umount /q/empty 2>/dev/null; mv /q /q2 2>/dev/null; ln -s " + victim + " /q 2>/dev/null; true\n"}, buildclient.Options{}))
	if _, err := os.Stat(filepath.Join(victim, "empty")); err != nil {
		w.Errorf("the host's file is gone: %v", err)
	}
	// Writing through links in COPY's destination stays inside.
	w.built(w.build(files{"Dockerfile": "FROM busybox\nRUN ln -s " + bait + " /out\nCOPY a /out/planted\nWORKDIR /out/wd\n", "a": "x"}, buildclient.Options{}))
	for _, name := range []string{"planted", "wd"} {
		if _, err := os.Lstat(filepath.Join(bait, name)); err == nil {
			w.Errorf("%s was written to the host", name)
		}
	}
}

func testClassic(w *world) {
	body := func(dockerfile string) *bytes.Reader {
		return bytes.NewReader(archiveOf(w.TB.(*testing.T), entry{name: "Dockerfile", content: dockerfile}, entry{name: "f", content: "data"}))
	}
	id, stream, err := w.classic(build.Request{Tags: []string{"classic"}}, body("FROM busybox\nENV a=b\nRUN echo hi && ! test -e /f\nCOPY f /f\n"))
	must(w.TB, err)
	short := strings.TrimPrefix(id, "sha256:")[:12]
	want := "Step 1/4 : FROM busybox\nStep 2/4 : ENV a=b\nStep 3/4 : RUN echo hi && ! test -e /f\nhi\nStep 4/4 : COPY f /f\nSuccessfully built " + short + "\nSuccessfully tagged classic:latest\n"
	if stream = strings.Replace(stream, "Step 1/4 : FROM busybox\n ---> Using cache\n", "Step 1/4 : FROM busybox\n", 1); stream != want {
		w.Errorf("stream: -want +got\n%s", cmp.Diff(want, stream))
	}
	img, err := w.images.Get(context.Background(), "classic")
	if err != nil || img.ID.String() != id {
		w.Errorf("classic is %v, %v", img, err)
	}
	_, _, err = w.classic(build.Request{}, body("FROM busybox\nRUN exit 3\n"))
	failed := new(jsonstream.Error)
	if !errors.As(err, &failed) || failed.Code != 3 || failed.Message != "The command '/bin/sh -c exit 3' returned a non-zero code: 3" {
		w.Errorf("got %v", err)
	}
	_, stream, err = w.classic(build.Request{Quiet: true}, body("FROM busybox\nRUN echo noise\n"))
	if err != nil || !strings.HasPrefix(stream, "sha256:") || len(stream) != 72 {
		w.Errorf("quiet: %q, %v", stream, err)
	}
}

func testCancel(w *world) {
	ctx, cancel := context.WithCancel(context.Background())
	result := w.begin(ctx, "FROM busybox\nRUN --mount=type=bind,target=/x echo started && sleep 1000\n")
	cancel()
	if res := <-result; !errors.Is(res.err, context.Canceled) {
		w.Errorf("got %v", res.err)
	}
}

// begin starts a build whose step says "started".
func (w *world) begin(ctx context.Context, dockerfile string) <-chan outcome {
	w.Helper()
	dir := w.folder(files{"Dockerfile": dockerfile})
	result := make(chan outcome, 1)
	var log lockedBuffer
	p, err := buildclient.NewProgress(&log, "plain")
	must(w.TB, err)
	go func() {
		res, err := buildclient.Build(ctx, buildclient.Options{Client: w.client, ContextDir: dir, Progress: p})
		must(w.TB, p.Close())
		result <- outcome{res, err, ""}
	}()
	for started := false; !started; {
		log.Lock()
		started = strings.Contains(log.Buffer.String(), " started")
		log.Unlock()
	}
	return result
}

func testOutputs(w *world) {
	f := files{"Dockerfile": "FROM scratch\nCOPY a /a\n", "a": "1"}
	var out bytes.Buffer
	w.built(w.build(f, buildclient.Options{Outputs: []string{"-"}, Stdout: &out}))
	if !strings.HasPrefix(out.String()[257:], "ustar") {
		w.Error("no tar archive on standard output")
	}
	for _, typ := range []string{"oci", "docker"} {
		path := filepath.Join(w.dir, typ+".tar")
		w.built(w.build(f, buildclient.Options{Outputs: []string{"type=" + typ + ",dest=" + path}, Tags: []string{"x"}}))
		if st, err := os.Stat(path); err != nil || st.Size() == 0 {
			w.Errorf("%s: %v", typ, err)
		}
	}
}

func testSyntax(w *world) {
	f := files{"Dockerfile": "# syntax=docker/dockerfile:1\nFROM busybox\nRUN <<EOT\necho heredoc\nEOT\n"}
	if res := w.built(w.build(f, buildclient.Options{})); !ran(res.log, "heredoc") {
		w.Errorf("log:\n%s", res.log)
	}
	f["Dockerfile"] = "# syntax=localhost:1/mine\nFROM busybox\n"
	if res := w.build(f, buildclient.Options{}); res.err == nil || !strings.Contains(res.err.Error(), "localhost:1/mine") {
		w.Errorf("another frontend: %v", res.err)
	}
}

// An image without a name is kept as such; naming it, and taking the name away to
// another image, leaves exactly the names that Docker would.
func testNames(w *world) {
	ctx := context.Background()
	f := files{"Dockerfile": "FROM busybox\nRUN echo names\n"}
	records := func(id string) []string {
		all, err := w.store.Images().List(ctx)
		must(w.TB, err)
		var names []string
		for _, r := range all {
			if r.Target.Digest.String() == id {
				names = append(names, r.Name)
			}
		}
		return names
	}
	first := w.built(w.build(f, buildclient.Options{}))
	if diff := cmp.Diff([]string{"moby-dangling@" + first.ImageID}, records(first.ImageID)); diff != "" {
		w.Errorf("unnamed: -want +got\n%s", diff)
	}
	w.built(w.build(f, buildclient.Options{Tags: []string{"n"}}))
	if diff := cmp.Diff([]string{"docker.io/library/n:latest"}, records(first.ImageID)); diff != "" {
		w.Errorf("named: -want +got\n%s", diff)
	}
	f["Dockerfile"] += "LABEL other=1\n"
	w.built(w.build(f, buildclient.Options{Tags: []string{"n"}}))
	if diff := cmp.Diff([]string{"moby-dangling@" + first.ImageID}, records(first.ImageID)); diff != "" {
		w.Errorf("its name taken: -want +got\n%s", diff)
	}
}

// The layers of a base image are unpacked once, whoever unpacked them.
func testLayersOnce(w *world) {
	ctx := context.Background()
	base, err := w.images.Get(ctx, "busybox")
	must(w.TB, err)
	before, err := w.store.Lower(ctx, base.ChainID)
	must(w.TB, err)
	count := func() int {
		entries, err := os.ReadDir(filepath.Join(w.dir, "store", "snapshots", "snapshots"))
		must(w.TB, err)
		n := 0
		for _, e := range entries {
			if _, err := os.Stat(filepath.Join(w.dir, "store", "snapshots", "snapshots", e.Name(), "fs", "bin", "busybox")); err == nil {
				n++
			}
		}
		return n
	}
	// One layer has the binary: one that the builder made, and the one unpacked of it.
	n := count()
	w.built(w.build(files{"Dockerfile": "FROM busybox\nRUN echo layers once\n"}, buildclient.Options{Tags: []string{"derived"}}))
	if got := count(); got != n {
		w.Errorf("%d snapshots hold the base's file, were %d", got, n)
	}
	derived, err := w.images.Get(ctx, "derived")
	must(w.TB, err)
	after, err := w.store.Lower(ctx, derived.ChainID)
	must(w.TB, err)
	if diff := cmp.Diff(before, after[len(after)-len(before):]); diff != "" {
		w.Errorf("base layers: -want +got\n%s", diff)
	}
}

func testPrune(w *world) {
	ctx := context.Background()
	records, err := w.builds.DiskUsage(ctx)
	must(w.TB, err)
	if len(records) == 0 {
		w.Fatal("no records after all those builds")
	}
	if u, err := w.store.Usage(ctx, du.New()); err != nil || u.Open == 0 || u.Unfinished != 0 {
		w.Errorf("no build is under way, folders of contexts are kept: %d open, %d unfinished: %v", u.Open, u.Unfinished, err)
	}
	report, err := w.builds.Prune(ctx, build.PruneOptions{All: true})
	must(w.TB, err)
	if len(report.CachesDeleted) == 0 || report.SpaceReclaimed == 0 {
		w.Errorf("report: %+v", report)
	}
	if _, err := w.images.Get(ctx, "derived"); err != nil {
		w.Errorf("prune took an image: %v", err)
	}
	img, err := w.images.Get(ctx, "derived")
	must(w.TB, err)
	must(w.TB, w.store.CollectGarbage(ctx))
	if _, err := w.store.Lower(ctx, img.ChainID); err != nil {
		w.Errorf("prune took an image's layers: %v", err)
	}
	w.built(w.build(files{"Dockerfile": "FROM busybox\nRUN echo after prune\n"}, buildclient.Options{}))
	// BuildKit's collections and the store's own take turns.
	var both sync.WaitGroup
	for range 10 {
		both.Go(func() {
			if _, err := w.builds.Prune(ctx, build.PruneOptions{All: true}); err != nil {
				w.Error(err)
			}
		})
		both.Go(func() {
			if err := w.store.CollectGarbage(ctx); err != nil {
				w.Error(err)
			}
		})
	}
	both.Wait()
}

// A daemon that was killed leaves steps behind; the next one removes them, and the
// cache is still good.
func TestRestart(t *testing.T) {
	w := newWorld(t)
	w.base()
	f := files{"Dockerfile": "FROM busybox\nRUN echo lasting\n"}
	first := w.built(w.build(f, buildclient.Options{Tags: []string{"x"}}))
	w.close()
	left := filepath.Join(w.dir, "exec", "build", strings.Repeat("a", 64))
	must(t, os.MkdirAll(filepath.Join(left, "rootfs"), 0o700))
	must(t, os.MkdirAll(filepath.Join(left, "run"), 0o700))
	// What a killed daemon leaves mounted: a secret, and a mount that steps share.
	for _, dir := range []string{"temp/buildkit-secrets1", "buildkit/cachemounts/buildkit1"} {
		must(t, os.MkdirAll(filepath.Join(w.dir, dir), 0o700))
		must(t, syscall.Mount("tmpfs", filepath.Join(w.dir, dir), "tmpfs", 0, ""))
	}
	w.open()
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the step's folder is left: %v", err)
	}
	w.clean()
	second := w.built(w.build(f, buildclient.Options{Tags: []string{"x"}}))
	if first.ImageID != second.ImageID || !strings.Contains(second.log, "CACHED") {
		t.Errorf("not cached:\n%s", second.log)
	}
}

// The daemon's end cancels what is being built and leaves nothing of it.
func TestEndDuringBuilds(t *testing.T) {
	w := newWorld(t)
	w.base()
	var results []<-chan outcome
	for i := range 3 {
		results = append(results, w.begin(context.Background(), fmt.Sprintf("FROM busybox\nRUN --mount=type=cache,target=/c echo started %d; sleep 1000\n", i)))
	}
	w.close()
	w.clean()
	if _, err := os.Stat(filepath.Join(w.dir, "exec", "build")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder of steps is left: %v", err)
	}
	for _, r := range results {
		if res := <-r; res.err == nil {
			t.Error("a build succeeded")
		}
	}
}

func TestClosed(t *testing.T) {
	w := newWorld(t)
	if records, err := w.builds.DiskUsage(context.Background()); err != nil || len(records) != 0 {
		t.Errorf("got %v, %v", records, err)
	}
	if _, err := os.Stat(filepath.Join(w.dir, "buildkit")); !errors.Is(err, os.ErrNotExist) {
		t.Error("asking opened the builder")
	}
	must(t, w.builds.Close())
	if _, _, err := w.classic(build.Request{}, strings.NewReader("")); !errdefs.IsUnavailable(err) {
		t.Errorf("got %v", err)
	}
}
