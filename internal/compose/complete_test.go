package compose_test

import (
	"strings"
	"testing"

	"github.com/moby/moby/api/types/container"

	"muelle/api"
)

// TestCompletion: services, projects and profiles, which a shell asks for by cobra's
// hidden command; the last line is what the shell is to do with the words.
func TestCompletion(t *testing.T) {
	d := &daemon{
		projects: []api.ProjectSummary{{Name: "p"}, {Name: "shop"}},
		list:     []container.Summary{{ID: "1", Labels: map[string]string{api.LabelProject: "shop", api.LabelService: "till"}}},
	}
	// Of a variable that is not set everything else warns.
	serve(t, d, strings.Replace(twoServices, "image: db}", "image: 'db:${NOT_SET_HERE}'}", 1))
	for line, want := range map[string]string{
		"logs ":                      "db debug web :4",
		"logs web ":                  "db debug :4",
		"logs -f --tail 3 w":         "db debug web :4", // the shell, or cobra's script, picks
		"exec ":                      "db debug web :4",
		"exec web ":                  ":0",
		"run ":                       "db debug web :4",
		"up -d ":                     "db debug web :4",
		"down ":                      "db debug web :4",
		"top ":                       "db debug web :4",
		"port ":                      "db debug web :4",
		"scale ":                     "db= debug= web= :6",
		"scale web=2 ":               "db= debug= :6",
		"cp ":                        "db: debug: web: :2",
		"version ":                   ":4",
		"-p shop logs ":              "till :4",
		"-p ":                        "p shop :4",
		"--profile ":                 "debug :4",
		"--ansi ":                    "auto never always :4",
		"-f ":                        "yaml yml :8",
		"-f absent.yaml logs ":       ":4",
		"--project-directory ":       ":16",
		"lo":                         "logs :4",
		"--project-name=shop stop t": "till :4",
	} {
		cut := strings.LastIndexByte(line, ' ')
		args := append([]string{"__completeNoDesc"}, strings.Fields(line[:max(cut, 0)])...)
		out, errs, code := run(t, append(args, line[cut+1:])...)
		got := strings.Join(strings.Fields(out), " ")
		if got != want || code != 0 || strings.Contains(errs, "NOT_SET_HERE") {
			t.Errorf("%q: %q, want %q (%d, %s)", line, got, want, code, errs)
		}
	}
}
