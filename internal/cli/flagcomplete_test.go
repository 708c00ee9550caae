package cli_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"muelle/internal/cli"
)

func TestCompletion(t *testing.T) {
	e := newEngine(t, map[string]string{
		"GET /containers/json": `[{"Id":"1","Names":["/up"],"State":"running"},{"Id":"2","Names":["/down"],"State":"exited"},{"Id":"3","Names":["/still"],"State":"paused"}]`,
		"GET /networks":        `[{"Name":"bridge"},{"Name":"front"}]`,
		"GET /images/json":     `[{"Id":"sha256:1","RepoTags":["busybox:1"]}]`,
		"GET /info":            `{"Runtimes":{"runc":{}},"Plugins":{"Log":["json-file","syslog"]}}`,
	})
	for line, want := range map[string]string{
		"stop ":                  "up :4",
		"start ":                 "down :4",
		"unpause ":               "still :4",
		"rm ":                    "down :4",
		"rm -f ":                 "up down still :4",
		"restart up ":            "down still :4",
		"container exec ":        "up :4",
		"push ":                  "busybox:1 :4",
		"compos":                 "compose :4",
		"compose":                "compose :4",
		"run --network ":         "bridge front :4",
		"network connect front ": "up down still :4",
		"run --pull ":            "always missing never :4",
		"run --volumes-from ":    "up down still :4",
		"run --link ":            "up: down: still: :6",
		"run --pid ":             "container: host :6",
		"run --pid container:u":  "container:up container:down container:still :4",
		"run --runtime ":         "runc :4",
		"run --log-driver ":      "json-file syslog :4",
		"run --userns ":          "host auto :4",
		"kill --signal SIGUS":    "SIGUSR1 SIGUSR2",
		"run --cap-add NET_ADM":  "NET_ADMIN",
		"volume ls --filter ":    "dangling= driver= label= name= :6",
	} {
		cut := strings.LastIndexByte(line, ' ')
		r := e.run("muelle", "", append(append([]string{"__completeNoDesc"}, strings.Fields(line[:max(cut, 0)])...), line[cut+1:])...)
		got := strings.Join(strings.Fields(r.Out), " ")
		if !strings.HasSuffix(want, ":4") && !strings.HasSuffix(want, ":6") { // one of many
			for w := range strings.FieldsSeq(want) {
				if !strings.Contains(got, w) {
					t.Errorf("%q: %s is missing in %q", line, w, got)
				}
			}
			continue
		}
		if got != want {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
}

// TestHelpListsPlugins of Docker's client, under its name only.
func TestHelpListsPlugins(t *testing.T) {
	dir := t.TempDir()
	plugins := filepath.Join(dir, "cli-plugins")
	if err := os.Mkdir(plugins, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"docker-hello": `#!/bin/sh
[ "$1" = docker-cli-plugin-metadata ] && echo '{"SchemaVersion":"0.1.0","ShortDescription":"Greets"}'`,
		"docker-none":    "#!/bin/sh\nexit 1",
		"docker-run":     "#!/bin/sh\necho '{\"SchemaVersion\":\"0.1.0\",\"ShortDescription\":\"hides a command\"}'",
		"docker-garbage": "#!/bin/sh\necho garbage",
	} {
		if err := os.WriteFile(filepath.Join(plugins, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("DOCKER_CONFIG", dir)
	t.Setenv("HOME", dir)
	run := func(args ...string) string {
		var out, errs bytes.Buffer
		cli.Run(t.Context(), args, cli.Streams{In: strings.NewReader(""), Out: &out, Err: &errs}, cli.Build{})
		return out.String()
	}
	out := run("docker", "--help")
	if !strings.Contains(out, "hello*") || !strings.Contains(out, "Greets") || strings.Contains(out, "none*") || strings.Contains(out, "garbage") || strings.Contains(out, "hides") {
		t.Errorf("%s", out)
	}
	if out := run("docker", "__completeNoDesc", "hel"); !strings.Contains(out, "hello\n") {
		t.Errorf("completion: %s", out)
	}
	if out := run("muelle", "--help"); strings.Contains(out, "hello") {
		t.Errorf("under the name muelle: %s", out)
	}
}
