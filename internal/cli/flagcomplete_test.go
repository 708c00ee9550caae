package cli_test

import (
	"strings"
	"testing"
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
		r := e.run("muelle", "", append(append([]string{"__completeNoDesc"}, strings.Fields(line[:cut])...), line[cut+1:])...)
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
