//go:build vm

package vm_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// built compiles what the machine runs into a folder.
func compile(t *testing.T, out string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append(args[:1:1], append([]string{"-o", out}, args[1:]...)...)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, text)
	}
}

// copyFile copies a file and its mode, links followed.
func copyFile(t *testing.T, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	st, err := in.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, st.Mode().Perm())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}

var libraryPath = regexp.MustCompile(`/[^ ]+`)

// install puts a program of this host and its libraries into the tree.
func install(t *testing.T, tree, name string) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%v: make deps installs it", err)
	}
	copyFile(t, path, filepath.Join(tree, "usr/bin", name))
	libraries(t, tree, path)
}

func libraries(t *testing.T, tree, path string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "ldd", path).Output()
	if err != nil {
		return // static
	}
	for _, lib := range libraryPath.FindAllString(string(out), -1) {
		copyFile(t, lib, filepath.Join(tree, lib))
	}
}

// writeAppArmor puts the compiler of profiles and what profiles include into the tree.
func writeAppArmor(t *testing.T, tree string) {
	t.Helper()
	dir := "../../bin/vm/apparmor"
	parser := filepath.Join(dir, "sbin/apparmor_parser")
	if _, err := os.Stat(parser); err != nil {
		t.Fatalf("%v: run hack/unpack.sh bin/vm/apparmor apparmor", err)
	}
	copyFile(t, parser, filepath.Join(tree, "sbin/apparmor_parser"))
	libraries(t, tree, parser)
	if err := os.CopyFS(filepath.Join(tree, "etc/apparmor.d"), os.DirFS(filepath.Join(dir, "etc/apparmor.d"))); err != nil {
		t.Fatal(err)
	}
}

// busybox gives the names under which busybox is called.
func busybox(t *testing.T) (path string, applets []string) {
	t.Helper()
	path, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatalf("%v: make deps installs it", err)
	}
	out, err := exec.CommandContext(t.Context(), path, "--list").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range strings.Fields(string(out)) {
		if a != "busybox" {
			applets = append(applets, a)
		}
	}
	return path, applets
}

// writeImage makes the file system of the image busybox as a tar archive: the same
// stand-in as hack/images/build.sh makes where there are more tools.
func writeImage(t *testing.T, path string) {
	t.Helper()
	box, applets := busybox(t)
	program, err := os.ReadFile(box)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	put := func(h tar.Header, data string) {
		h.Size = int64(len(data))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, data); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"bin", "dev", "etc", "home", "proc", "root", "run", "sys", "usr", "usr/bin", "usr/sbin", "sbin", "var"} {
		put(tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755}, "")
	}
	put(tar.Header{Typeflag: tar.TypeDir, Name: "tmp/", Mode: 0o1777}, "")
	put(tar.Header{Typeflag: tar.TypeReg, Name: "bin/busybox", Mode: 0o755}, string(program))
	for _, a := range applets {
		put(tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + a, Linkname: "busybox"}, "")
	}
	put(tar.Header{Typeflag: tar.TypeReg, Name: "etc/passwd", Mode: 0o644}, "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\n")
	put(tar.Header{Typeflag: tar.TypeReg, Name: "etc/group", Mode: 0o644}, "root:x:0:\nnogroup:x:65534:\n")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// copyBinaries puts ours into a folder, muelle-oci as the link that hack/install.sh makes
// where make build has made one.
func copyBinaries(t *testing.T, dir string) {
	t.Helper()
	binaries, err := filepath.Glob("../../bin/muelle*")
	if err != nil || len(binaries) == 0 {
		t.Fatalf("no binaries in bin/: make build (%v)", err)
	}
	shim, err := os.Stat("../../bin/muelle-shim")
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range binaries {
		at := filepath.Join(dir, filepath.Base(b))
		if st, err := os.Stat(b); err == nil && os.SameFile(st, shim) && filepath.Base(b) == "muelle-oci" {
			if err := os.Symlink("muelle-shim", at); err != nil {
				t.Fatal(err)
			}
			continue
		}
		copyFile(t, b, at)
	}
}

// writeTree makes the machine's file system: busybox, the Docker client, our binaries
// and the end-to-end tests.
func writeTree(t *testing.T, tree, run string) {
	t.Helper()
	for _, dir := range []string{"bin", "dev", "etc", "proc", "root", "run", "sbin", "sys", "tmp", "usr/bin", "usr/sbin", "var/tmp", "var/lib", "muelle/bin", "muelle/test/e2e"} {
		if err := os.MkdirAll(filepath.Join(tree, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	box, applets := busybox(t)
	copyFile(t, box, filepath.Join(tree, "bin/busybox"))
	for _, a := range applets {
		if err := os.Symlink("busybox", filepath.Join(tree, "bin", a)); err != nil {
			t.Fatal(err)
		}
	}
	for _, program := range []string{"docker", "script", "nft"} {
		install(t, tree, program)
	}
	writeAppArmor(t, tree)
	copyBinaries(t, filepath.Join(tree, "muelle/bin"))
	compile(t, filepath.Join(tree, "muelle/bin/echo"), "build", "../e2e/echo")
	compile(t, filepath.Join(tree, "muelle/test/e2e/e2e.test"), "test", "-c", "-tags", "root,vm", "../e2e")
	writeImage(t, filepath.Join(tree, "muelle/busybox.tar"))
	for name, text := range map[string]string{
		"etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\n",
		"etc/group":  "root:x:0:\nnogroup:x:65534:\n", "etc/hosts": "127.0.0.1 localhost vm\n::1 localhost\n", "etc/resolv.conf": "",
		"etc/nsswitch.conf": "hosts: files dns\n", "etc/hostname": "vm\n",
	} {
		if err := os.WriteFile(filepath.Join(tree, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	script := fmt.Sprintf(`#!/bin/sh
export MUELLE_E2E_IMAGE=/muelle/busybox.tar MUELLE_E2E_ECHO=/muelle/bin/echo MUELLE_AUTOSTART=0
cd /muelle/test/e2e && exec ./e2e.test -test.v -test.timeout 20m -test.run '%s'
`, run)
	if err := os.WriteFile(filepath.Join(tree, "muelle/ring"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
}
