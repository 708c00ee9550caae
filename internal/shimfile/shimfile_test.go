package shimfile_test

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"muelle/internal/shimfile"
)

// Two programs as short as can be. The first has the constant of who links the package.
var (
	shim   = []byte("\x7fELF the small one")
	oci    = []byte("\x7fELF the large one \x7fmuelle-oci carries muelle-shim\n and more of it")
	joined = must(shimfile.Join(oci, shim))
)

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

func contents(t *testing.T, data []byte, p shimfile.Program) string {
	t.Helper()
	out, err := io.ReadAll(io.NewSectionReader(bytes.NewReader(data), p.Offset, p.Size))
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestAJoinedFileCarriesTheShim(t *testing.T) {
	if !bytes.HasPrefix(joined, oci) {
		t.Error("the file does not begin with muelle-oci")
	}
	if !bytes.Equal(joined, must(shimfile.Join(oci, shim))) {
		t.Error("the same programs give another file")
	}
	p, err := shimfile.Find(bytes.NewReader(joined), int64(len(joined)))
	if err != nil {
		t.Fatal(err)
	}
	if got := contents(t, joined, p); got != string(shim) {
		t.Errorf("it carries %q", got)
	}
	if p.Offset%4096 != 0 {
		t.Errorf("the shim begins at %d", p.Offset)
	}
	if err := p.Verify(bytes.NewReader(joined)); err != nil {
		t.Error(err)
	}
}

func TestAShimByItself(t *testing.T) {
	p, err := shimfile.Find(bytes.NewReader(shim), int64(len(shim)))
	if err != nil || contents(t, shim, p) != string(shim) {
		t.Errorf("%+v, %v", p, err)
	}
	if err := p.Verify(bytes.NewReader(shim)); err != nil {
		t.Error(err)
	}
	for name, data := range map[string][]byte{"shim": shim, "oci": oci, "nothing": nil, "short": []byte("x")} {
		if _, ok, err := shimfile.Carried(bytes.NewReader(data), int64(len(data))); ok || err != nil {
			t.Errorf("%s: carries %v, %v", name, ok, err)
		}
	}
}

// None of these may pass for a shim.
func TestRefused(t *testing.T) {
	changed := func(at int) []byte {
		out := bytes.Clone(joined)
		out[at] ^= 1
		return out
	}
	end, start := len(joined), len(joined)-64-len(shim)
	const incomplete, damaged = "incomplete, or was stripped", "is damaged"
	cases := map[string]struct {
		data []byte
		want string
	}{
		"nothing":                   {nil, "no program"},
		"a script":                  {[]byte("#!/bin/sh\nexec something --with a=long -line of=arguments --and more\n"), "no program"},
		"cut by one byte":           {joined[:end-1], incomplete},
		"cut in the shim":           {joined[:start+3], incomplete},
		"cut before the shim":       {joined[:start], incomplete},
		"stripped, or not joined":   {oci, incomplete},
		"something after it":        {append(bytes.Clone(joined), "more"...), incomplete},
		"bytes lost in front":       {append(bytes.Clone(oci), joined[len(oci)+8:]...), damaged},
		"bytes put in front":        {append(bytes.Clone(oci), joined...), damaged},
		"the trailer by itself":     {joined[end-64:], damaged},
		"another offset":            {changed(end - 64 + 8), damaged},
		"another size":              {changed(end - 64 + 16), damaged},
		"another sum":               {changed(end - 64 + 24), damaged},
		"no program begins there":   {changed(start), damaged},
		"the magic is changed":      {changed(end - 2), incomplete},
		"zeros where a program was": {append(make([]byte, start), joined[start:]...), ""}, // the shim is whole
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := shimfile.Find(bytes.NewReader(c.data), int64(len(c.data)))
			if c.want == "" && err == nil {
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	data := changed(start + 8)
	p, err := shimfile.Find(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Verify(bytes.NewReader(data)); err == nil || !strings.Contains(err.Error(), damaged) {
		t.Errorf("a changed shim: %v", err)
	}
}

// The magic is found wherever it lies, and a part of it is not enough.
func TestTheMagicAnywhere(t *testing.T) {
	const magic = "\x7fmuelle-oci carries muelle-shim\n"
	for _, size := range []int{128 << 10, 256 << 10} {
		for at := size - len(magic) - 40; at < size+8; at++ {
			data := append([]byte("\x7fELF"), make([]byte, size+100)...)
			copy(data[at:], magic)
			if _, err := shimfile.Find(bytes.NewReader(data), int64(len(data))); err == nil {
				t.Fatalf("at %d: not found", at)
			}
			data[at+5] = 'x'
			if _, err := shimfile.Find(bytes.NewReader(data), int64(len(data))); err != nil {
				t.Fatalf("at %d: %v", at, err)
			}
		}
	}
}

func TestWhatIsNotJoined(t *testing.T) {
	for name, c := range map[string]struct {
		oci, shim []byte
		want      string
	}{
		"no program":  {[]byte("text"), shim, "muelle-oci is no program"},
		"no shim":     {oci, nil, "muelle-shim is no program"},
		"exchanged":   {shim, shim, "given as muelle-oci is another"},
		"twice oci":   {oci, oci, "given as muelle-shim is another"},
		"joined once": {joined, shim, "joined already"},
	} {
		if _, err := shimfile.Join(c.oci, c.shim); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

// TestTheTool joins the real programs, which is where it shows that the compiler keeps
// the constant whole, and that it replaces and leaves alone what it should.
func TestTheTool(t *testing.T) {
	dir := t.TempDir()
	from, to, tool := filepath.Join(dir, "from"), filepath.Join(dir, "to"), filepath.Join(dir, "join")
	for _, d := range []string{from, to} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	run := func(name string, args ...string) {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	run("go", "build", "-trimpath", "-ldflags=-s -w", "-o", from+"/", "muelle/cmd/muelle-shim", "muelle/cmd/muelle-oci")
	run("go", "build", "-o", tool, "muelle/hack/join")
	old, err := os.Create(filepath.Join(to, "muelle-shim"))
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	if err := os.Symlink("muelle-shim", filepath.Join(to, "muelle-oci")); err != nil {
		t.Fatal(err)
	}
	run(tool, from, to)
	if st, err := old.Stat(); err != nil || st.Size() != 0 {
		t.Errorf("the file was written and not replaced: %d, %v", st.Size(), err)
	}
	before := stat(t, filepath.Join(to, "muelle-shim"))
	if !os.SameFile(before, stat(t, filepath.Join(to, "muelle-oci"))) {
		t.Error("muelle-oci is no link to muelle-shim")
	}
	want, err := os.ReadFile(filepath.Join(from, "muelle-shim"))
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(to, "muelle-oci"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := shimfile.Find(bytes.NewReader(data), int64(len(data)))
	if err != nil || contents(t, data, p) != string(want) {
		t.Errorf("it carries another shim: %+v, %v", p, err)
	}
	run(tool, from, to)
	if !os.SameFile(before, stat(t, filepath.Join(to, "muelle-shim"))) {
		t.Error("the same programs have made another file")
	}
	if names, err := filepath.Glob(to + "/*"); err != nil || len(names) != 2 {
		t.Errorf("there are %q, %v", names, err)
	}
}

func stat(t *testing.T, path string) os.FileInfo {
	t.Helper()
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func FuzzFind(f *testing.F) {
	f.Add(joined)
	f.Add(shim)
	f.Add(oci)
	f.Fuzz(func(t *testing.T, data []byte) {
		size := int64(len(data))
		p, err := shimfile.Find(bytes.NewReader(data), size)
		if err != nil {
			return
		}
		if p.Offset < 0 || p.Size < 4 || p.Offset > size || p.Size > size-p.Offset || string(data[p.Offset:p.Offset+4]) != "\x7fELF" {
			t.Errorf("%+v of %d bytes", p, size)
		}
		if err := p.Verify(bytes.NewReader(data)); err != nil && p.Offset == 0 {
			t.Error(err)
		}
	})
}
