package console_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"muelle/internal/console"
)

const pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"

// Under the name docker contexts are Docker's own files.
func TestDockerContextIsWritten(t *testing.T) {
	o := options(t, "docker", nil)
	store := o.Contexts()
	file := filepath.Join(t.TempDir(), "ca")
	if err := os.WriteFile(file, []byte(pem), 0o600); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(o.DockerDir(), "config.json")
	if err := os.MkdirAll(o.DockerDir(), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(config, []byte(`{"auths":{"a":{}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := store.Save(console.Context{Name: "remote", Host: "ssh://me@there", Description: "d", CA: file}, false); err != nil {
		t.Fatal(err)
	}
	const id = "b71199ebd070b36beab7317920c2c2f1d777df8d05e5527d8458fda57cb17a7a"
	b, err := os.ReadFile(filepath.Join(o.DockerDir(), "contexts", "meta", id, "meta.json"))
	if err != nil {
		t.Fatal(err)
	}
	var doc any
	if err := json.Unmarshal(b, &doc); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"Name": "remote", "Metadata": map[string]any{"Description": "d"},
		"Endpoints": map[string]any{"docker": map[string]any{"Host": "ssh://me@there", "SkipTLSVerify": false}}}
	if diff := cmp.Diff(want, doc); diff != "" {
		t.Error(diff)
	}
	if b, err := os.ReadFile(filepath.Join(o.DockerDir(), "contexts", "tls", id, "docker", "ca.pem")); err != nil || string(b) != pem {
		t.Errorf("%q, %v", b, err)
	}
	if err := store.Use("remote"); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(config); err != nil || !strings.Contains(string(b), `"currentContext": "remote"`) || !strings.Contains(string(b), `"auths"`) {
		t.Errorf("%s, %v", b, err)
	}
	if n, err := store.Current(""); n != "remote" || err != nil {
		t.Errorf("%s, %v", n, err)
	}
	if err := store.Remove("remote", true); err != nil {
		t.Fatal(err)
	}
	if all, err := store.List(); err != nil || len(all) != 1 {
		t.Errorf("%+v, %v", all, err)
	}
	if n, err := store.Current(""); n != "default" || err != nil {
		t.Errorf("%s, %v", n, err)
	}
}

func TestExportAndImport(t *testing.T) {
	x := console.Context{Name: "there", Host: "tcp://h:2376", Description: "d", CA: pem, Cert: pem, Key: pem, SkipVerify: true}
	var b bytes.Buffer
	if err := x.Export(&b); err != nil {
		t.Fatal(err)
	}
	got, err := console.ImportContext(&b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(x, got, cmpopts.EquateEmpty()); diff != "" {
		t.Error(diff)
	}
}

func archiveOf(t *testing.T, zipped bool, name, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	if zipped {
		z := zip.NewWriter(&b)
		w, err := z.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = w.Write([]byte(text))
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(text))}); err != nil {
		t.Fatal(err)
	}
	_, _ = w.Write([]byte(text))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestImportOfStrangers(t *testing.T) {
	const meta = `{"Name":"n","Endpoints":{"docker":{"Host":"unix:///x"}}}`
	for _, tc := range []struct {
		name string
		in   []byte
		err  string
	}{
		{"tar", archiveOf(t, false, "meta.json", meta), ""},
		{"zip", archiveOf(t, true, "meta.json", meta), ""},
		{"other file", archiveOf(t, false, "passwd", "x"), "passwd: unexpected context file"},
		{"way out", archiveOf(t, true, "tls/../../x", "x"), "tls/../../x: unexpected path format"},
		{"no document", archiveOf(t, false, "tls/docker/ca.pem", "x"), "invalid context: no metadata found"},
		{"nothing", nil, "invalid context: no metadata found"},
		{"text", []byte("hello"), "unexpected EOF"},
		{"too large", make([]byte, 11<<20), "read exceeds the defined limit"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			x, err := console.ImportContext(bytes.NewReader(tc.in))
			if tc.err == "" {
				if err != nil || x.Host != "unix:///x" {
					t.Errorf("%+v, %v", x, err)
				}
				return
			}
			if err == nil || err.Error() != tc.err {
				t.Errorf("%v, want %s", err, tc.err)
			}
		})
	}
}

func FuzzImportContext(f *testing.F) {
	f.Add([]byte("PK\x03\x04"))
	f.Add([]byte("meta.json"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := console.ImportContext(bytes.NewReader(b)); err != nil && strings.TrimSpace(err.Error()) == "" {
			t.Error("an error without words")
		}
	})
}

func TestHeadersOfDocker(t *testing.T) {
	env := map[string]string{"DOCKER_HOST": "unix:///x", "DOCKER_API_VERSION": "1.41"}
	o := options(t, "docker", env)
	if err := os.MkdirAll(o.DockerDir(), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(o.DockerDir(), "config.json"), []byte(`{"HttpHeaders":{"X-Me":"1","user-agent":"no"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	e, err := console.Find(o)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"X-Me": "1"}, e.Headers); diff != "" || e.Version != "1.41" || e.Remote != "docker" {
		t.Errorf("%+v: %s", e, diff)
	}
	env["DOCKER_CUSTOM_HEADERS"] = `A=1,"B=2,3"`
	if e, err = console.Find(o); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"A": "1", "B": "2,3"}, e.Headers); diff != "" {
		t.Error(diff)
	}
	env["DOCKER_CUSTOM_HEADERS"] = "A"
	if _, err := console.Find(o); err == nil {
		t.Error("a header without a value is accepted")
	}
}
