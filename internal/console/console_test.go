package console_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/registry"

	"muelle/client"
	"muelle/internal/console"
)

func options(t *testing.T, name string, env map[string]string) *console.Options {
	t.Helper()
	t.Setenv("MUELLE_NAME", "")
	home := t.TempDir()
	o := console.NewOptions(name)
	o.Getenv = func(k string) string {
		if k == "HOME" && env[k] == "" {
			return home
		}
		return env[k]
	}
	return o
}

func TestFind(t *testing.T) {
	const def = "unix:///run/muelle/muelle.sock"
	for _, tc := range []struct {
		name   string
		called string
		env    map[string]string
		hosts  []string
		ctx    string
		use    string
		want   string
		def    bool
		err    string
	}{
		{name: "nothing said", called: "muelle", want: def, def: true},
		{name: "-H", called: "muelle", hosts: []string{"unix:///a"}, env: map[string]string{"MUELLE_HOST": "unix:///b"}, want: "unix:///a"},
		{name: "-H with a path", called: "muelle", hosts: []string{"/a"}, want: "unix:///a"},
		{name: "-H with a name", called: "muelle", hosts: []string{"example.org"}, want: "tcp://example.org:2375"},
		{name: "-H with a port", called: "muelle", hosts: []string{"tcp://[::1]:99"}, want: "tcp://[::1]:99"},
		{name: "-H twice", called: "muelle", hosts: []string{"a", "b"}, err: "specify only one -H"},
		{name: "-H and context", called: "muelle", hosts: []string{"a"}, ctx: "c", err: "conflicting options: cannot specify both --host and --context"},
		{name: "environment", called: "muelle", env: map[string]string{"MUELLE_HOST": "unix:///b"}, use: "c", want: "unix:///b"},
		{name: "context in use", called: "muelle", use: "c", want: "unix:///c"},
		{name: "context given", called: "muelle", ctx: "c", env: map[string]string{"MUELLE_HOST": "unix:///b"}, want: "unix:///c"},
		{name: "context default given", called: "muelle", ctx: "default", use: "c", want: def},
		{name: "no such context", called: "muelle", ctx: "x1", err: `context "x1": context not found`},
		{name: "Docker's variable is not ours", called: "muelle", env: map[string]string{"DOCKER_HOST": "unix:///d", "DOCKER_CONTEXT": "d"}, want: def, def: true},
		{name: "but docker's", called: "/usr/bin/docker", env: map[string]string{"DOCKER_HOST": "unix:///d"}, want: "unix:///d"},
		{name: "docker without anything", called: "docker", want: def, def: true},
		{name: "docker with ours", called: "docker", env: map[string]string{"MUELLE_HOST": "unix:///b"}, want: "unix:///b"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := options(t, tc.called, tc.env)
			o.Hosts, o.Context = tc.hosts, tc.ctx
			if err := o.Contexts().Save(console.Context{Name: "ctx", Host: "/c"}, false); err != nil {
				t.Fatal(err)
			}
			// The name "c" is too short for a context: "ctx" stands for it.
			if tc.ctx == "c" {
				o.Context = "ctx"
			}
			if tc.use != "" {
				if err := o.Contexts().Use("ctx"); err != nil {
					t.Fatal(err)
				}
			}
			e, err := console.Find(o)
			if tc.err != "" {
				if err == nil || err.Error() != tc.err {
					t.Fatalf("error %v, want %s", err, tc.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if e.Host != tc.want || e.Default != tc.def {
				t.Errorf("%s (default %v), want %s (%v)", e.Host, e.Default, tc.want, tc.def)
			}
		})
	}
}

func TestContexts(t *testing.T) {
	o := options(t, "muelle", nil)
	c := o.Contexts()
	check := func(err error, want string) {
		t.Helper()
		if got := ""; err != nil {
			if got = err.Error(); got != want {
				t.Errorf("%s, want %s", got, want)
			}
		} else if want != "" {
			t.Errorf("no error, want %s", want)
		}
	}
	check(c.Save(console.Context{Name: "one", Host: "unix:///1", Description: "d"}, false), "")
	check(c.Save(console.Context{Name: "one", Host: "unix:///2"}, false), `context "one" already exists`)
	check(c.Save(console.Context{Name: "one", Host: "unix:///2"}, true), "")
	check(c.Save(console.Context{Name: "default", Host: "unix:///2"}, true), `"default" is a reserved context name`)
	check(c.Save(console.Context{Name: "../evil", Host: "unix:///2"}, true), `context name "../evil" is invalid, names are validated against regexp "^[a-zA-Z0-9][a-zA-Z0-9_.+-]+$"`)
	check(c.Use("two"), `context "two": context not found`)
	check(c.Use("one"), "")
	check(c.Remove("one", false), `context "one" is in use, set -f flag to force remove`)
	all, err := c.List()
	check(err, "")
	if len(all) != 2 || all[0].Name != "default" || all[1].Host != "unix:///2" {
		t.Errorf("contexts %+v", all)
	}
	check(c.Remove("one", true), "")
	if n, err := c.Current(""); n != "default" || err != nil {
		t.Errorf("current %s, %v", n, err)
	}
	check(c.Remove("one", false), `context "one" does not exist`)
}

func TestDockerContext(t *testing.T) {
	o := options(t, "docker", map[string]string{"DOCKER_CONTEXT": "remote"})
	// Docker names the folder by the sha256 of "remote".
	dir := filepath.Join(o.DockerDir(), "contexts", "meta", "b71199ebd070b36beab7317920c2c2f1d777df8d05e5527d8458fda57cb17a7a")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	meta := `{"Name":"remote","Metadata":{"Description":"there"},"Endpoints":{"docker":{"Host":"unix:///there","SkipTLSVerify":false}}}`
	if err := os.WriteFile(filepath.Join(dir, "meta.json"), []byte(meta), 0o600); err != nil {
		t.Fatal(err)
	}
	e, err := console.Find(o)
	if err != nil || e.Host != "unix:///there" {
		t.Errorf("%+v, %v", e, err)
	}
	all, err := o.Contexts().List()
	if err != nil || len(all) != 2 || all[1].Description != "there" {
		t.Errorf("%+v, %v", all, err)
	}
	if _, err := o.Contexts().Get("other"); err == nil || !strings.Contains(err.Error(), "context not found") {
		t.Errorf("error %v", err)
	}
}

func TestParseRef(t *testing.T) {
	const digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	for _, tc := range []struct{ in, full, familiar, err string }{
		{"busybox", "docker.io/library/busybox", "busybox", ""},
		{"busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36", ""},
		{"me/app", "docker.io/me/app", "me/app", ""},
		{"index.docker.io/me/app", "docker.io/me/app", "me/app", ""},
		{"127.0.0.1:5050/a/b:v1", "127.0.0.1:5050/a/b:v1", "127.0.0.1:5050/a/b:v1", ""},
		{"localhost/a", "localhost/a", "localhost/a", ""},
		{"reg.example.org/a@" + digest, "reg.example.org/a@" + digest, "reg.example.org/a@" + digest, ""},
		{"a:t@" + digest, "docker.io/library/a:t@" + digest, "a:t@" + digest, ""},
		{"a__b-c.d--e", "docker.io/library/a__b-c.d--e", "a__b-c.d--e", ""},
		{"UPPER", "", "", "invalid reference format: repository name (library/UPPER) must be lowercase"},
		{"HOST/a", "HOST/a", "HOST/a", ""},
		{"UPPER:::x", "", "", "invalid reference format: repository name (library/UPPER) must be lowercase"},
		{"localhost:5/a/B:x", "", "", "invalid reference format: repository name (a/B) must be lowercase"},
		{"", "", "", "invalid reference format"},
		{"a:", "", "", "invalid reference format"},
		{"a b", "", "", "invalid reference format"},
		{"-a", "", "", "invalid reference format"},
		{"a..b", "", "", "invalid reference format"},
		{"a@sha256:12", "", "", "invalid reference format"},
		{"a/../b", "", "", "invalid reference format"},
		{strings.Repeat("a", 64), "", "", "invalid repository name (" + strings.Repeat("a", 64) + "), cannot specify 64-byte hexadecimal strings"},
	} {
		t.Run(tc.in, func(t *testing.T) {
			r, err := console.ParseRef(tc.in)
			if tc.err != "" {
				if err == nil || err.Error() != tc.err {
					t.Errorf("error %v, want %s", err, tc.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if r.String() != tc.full || r.FamiliarString() != tc.familiar {
				t.Errorf("%s and %s, want %s and %s", r, r.FamiliarString(), tc.full, tc.familiar)
			}
		})
	}
}

func TestCredentials(t *testing.T) {
	o := options(t, "muelle", nil)
	path := filepath.Join(o.DockerDir(), "config.json")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	before := `{"auths":{"https://index.docker.io/v1/":{"auth":"bWU6c2VjcmV0"},"https://old.example.org/v1/":{"auth":"YTpi"},"id.example.org":{"identitytoken":"tok"}},"credHelpers":{"helped.example.org":"test"},"theirs":{"kept":true}}`
	if err := os.WriteFile(path, []byte(before), 0o600); err != nil {
		t.Fatal(err)
	}
	helper := filepath.Join(t.TempDir(), "docker-credential-test")
	script := "#!/bin/sh\nread -r s\ncase $1 in get) echo \"{\\\"ServerURL\\\":\\\"$s\\\",\\\"Username\\\":\\\"<token>\\\",\\\"Secret\\\":\\\"t\\\"}\" ;; esac\n"
	if err := os.WriteFile(helper, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", filepath.Dir(helper)+":"+os.Getenv("PATH"))
	for ref, want := range map[string]*registry.AuthConfig{
		"busybox":                {ServerAddress: console.DockerHub, Username: "me", Password: "secret"},
		"old.example.org/a":      {ServerAddress: "old.example.org", Username: "a", Password: "b"},
		"id.example.org/a":       {ServerAddress: "id.example.org", IdentityToken: "tok"},
		"helped.example.org/a":   {ServerAddress: "helped.example.org", IdentityToken: "t"},
		"unknown.example.org/a":  nil,
		"127.0.0.1:5050/x/y:tag": nil,
	} {
		got, err := o.Auth(ref)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", ref, d)
		}
	}
	cfg, err := o.DockerConfig()
	if err != nil {
		t.Fatal(err)
	}
	if err := cfg.Store(registry.AuthConfig{ServerAddress: "new.example.org", Username: "u", Password: "p"}); err != nil {
		t.Fatal(err)
	}
	if err := cfg.Erase("id.example.org"); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var after map[string]any
	if err := json.Unmarshal(b, &after); err != nil {
		t.Fatal(err)
	}
	auths := after["auths"].(map[string]any)
	if auths["id.example.org"] != nil || auths["new.example.org"] == nil || after["theirs"] == nil {
		t.Errorf("the file is now %s", b)
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", fi.Mode(), err)
	}
}

type row struct{ name, size string }

func (r *row) MarshalJSON() ([]byte, error) { return console.MarshalRow(r) }
func (r *row) Name() string                 { return r.name }
func (r *row) Size() string                 { return r.size }

func TestTable(t *testing.T) {
	for _, tc := range []struct{ name, format, want, err string }{
		{"table", `table {{.Name}}\t{{.Size}}`, "NAME              SIZE\nx                 1B\na-long-name-too   22B\n", ""},
		{"spaces", "table   {{.Name}}", "NAME\nx\na-long-name-too\n", ""},
		{"json", "json", `{"Name":"x","Size":"1B"}` + "\n" + `{"Name":"a-long-name-too","Size":"22B"}` + "\n", ""},
		{"lines", `{{.Name}}\n{{.Size}}`, "x\n1B\na-long-name-too\n22B\n", ""},
		{"functions", `table {{upper .Name}}\t{{truncate .Name 2}}\t{{pad .Size 1 1}}\t{{json .Size}}\t{{println .Name}}`, "", ""},
		{"broken", "{{", "", "template parsing error: template: :1: unclosed action"},
		{"unknown", "{{.No}}", "", `template parsing error: template: :1:2: executing "" at <.No>: can't evaluate field No in type *console_test.row`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var out bytes.Buffer
			err := console.Table{Out: &out, Format: tc.format, Headers: console.Headers{"Name": "NAME", "Size": "SIZE"}}.Write(&row{"x", "1B"}, &row{"a-long-name-too", "22B"})
			if tc.err != "" || err != nil {
				if err == nil || err.Error() != tc.err {
					t.Errorf("error %v, want %s", err, tc.err)
				}
				return
			}
			if tc.want != "" && out.String() != tc.want {
				t.Errorf("%q, want %q", out.String(), tc.want)
			}
		})
	}
}

func TestExplain(t *testing.T) {
	down := func(host string) error { return &client.UnreachableError{Host: host, Err: errors.New("refused")} }
	for _, tc := range []struct {
		name, called string
		err          error
		want         string
	}{
		{"default", "muelle", down("unix:///run/muelle/muelle.sock"), "cannot reach muelled at unix:///run/muelle/muelle.sock: start it (systemctl start muelle) or join group muelle (which equals root)"},
		{"elsewhere", "muelle", down("unix:///x"), "cannot reach muelled at unix:///x: refused"},
		{"docker", "docker", down("unix:///x"), "Cannot connect to the Docker daemon at unix:///x. Is the docker daemon running?"},
		{"another", "muelle", errors.New("other"), "other"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := console.Explain(options(t, tc.called, nil), tc.err).Error(); got != tc.want {
				t.Errorf("%s, want %s", got, tc.want)
			}
		})
	}
}

func TestWords(t *testing.T) {
	for _, tc := range []struct{ got, want string }{
		{console.HumanSize(0), "0B"},
		{console.HumanSize(1234), "1.23kB"},
		{console.HumanSize(4261502), "4.26MB"},
		{console.HumanSize4(4261502), "4.262MB"},
		{console.ShortID("sha256:0123456789abcdef"), "0123456789ab"},
		{console.ShortID("0123"), "0123"},
		{console.Ellipsis("abcdef", 6), "abcdef"},
		{console.Ellipsis("abcdefg", 6), "abcde…"},
		{console.Ellipsis("ñandúes!", 6), "ñandú…"},
	} {
		if tc.got != tc.want {
			t.Errorf("%s, want %s", tc.got, tc.want)
		}
	}
}
