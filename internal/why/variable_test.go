package why_test

import (
	"strings"
	"testing"

	ctypes "github.com/moby/moby/api/types/container"

	"muelle/api"
	"muelle/internal/container"
	"muelle/internal/why"
)

// textOf is everything that a finding says.
func textOf(f api.WhyFinding) string {
	text := f.What + "\n" + strings.Join(f.Do, "\n")
	for _, e := range f.Evidence {
		text += "\n" + e.Source + ": " + e.Text
	}
	return text
}

func TestMissingVariable(t *testing.T) {
	traceback := "Traceback (most recent call last):\n  File \"/app/main.py\", line 3, in <module>\n    url = os.environ[\"DATABASE_URL\"]\n  File \"<frozen os>\", line 680, in __getitem__\nKeyError: 'DATABASE_URL'"
	for _, tt := range []struct {
		name, log string
		args, env []string
		service   string
		variable  string // that is said to be missing; empty: none
		likely    bool
		says      []string
	}{
		{name: "Python", log: traceback, variable: "DATABASE_URL", says: []string{"is not set", "-e DATABASE_URL=VALUE"}},
		{name: "Python with a slip", log: traceback, env: []string{"DATABASE_URI=x"}, variable: "DATABASE_URL", says: []string{"Did you mean DATABASE_URL by DATABASE_URI?"}},
		{name: "Python, empty", log: traceback, env: []string{"DATABASE_URL="}, variable: "DATABASE_URL", says: []string{"set, but empty"}},
		{name: "Python, but it is set", log: traceback, env: []string{"DATABASE_URL=x"}},
		{name: "some other dictionary", log: "Traceback (most recent call last):\n  File \"/app/main.py\", line 3, in <module>\n    user = rows[\"ADMIN\"]\nKeyError: 'ADMIN'"},
		{name: "decouple", log: "decouple.UndefinedValueError: SECRET_KEY not found. Declare it as envvar or define a default value.", variable: "SECRET_KEY"},
		{name: "Django", log: "django.core.exceptions.ImproperlyConfigured: Set the DATABASE_URL environment variable", variable: "DATABASE_URL"},
		{name: "environs", log: `environs.EnvError: Environment variable "API_TOKEN" not set`, variable: "API_TOKEN"},
		{name: "pydantic", log: "pydantic_core._pydantic_core.ValidationError: 1 validation error for Settings\ndatabase_url\n  Field required [type=missing, input_value={}, input_type=dict]", variable: "DATABASE_URL", likely: true},
		{name: "pydantic, a request", log: "pydantic_core._pydantic_core.ValidationError: 1 validation error for Order\nquantity\n  Field required [type=missing, input_value={}, input_type=dict]"},
		{name: "Node", log: "Error: Missing required environment variable: MONGO_URL\n    at Object.<anonymous> (/app/index.js:3:9)", variable: "MONGO_URL"},
		{name: "Node, property", log: "Error: process.env.MONGO_URL is not defined", variable: "MONGO_URL"},
		{name: "Node, another name", log: "ReferenceError: FOO is not defined"},
		{name: "env-var", log: `EnvVarError: env-var: "PORT" is a required variable, but it was not set`, variable: "PORT"},
		{name: "Prisma", log: "error: Environment variable not found: DATABASE_URL.", variable: "DATABASE_URL"},
		{name: "Go env", log: `env: required environment variable "DB_HOST" is not set`, variable: "DB_HOST"},
		{name: "Go, by hand", log: "2026/01/01 10:00:00 required environment variable DB_HOST is missing", variable: "DB_HOST"},
		{name: "Go, name first", log: "DB_HOST environment variable must be set", variable: "DB_HOST"},
		{name: "envconfig", log: "required key DB_HOST missing value", variable: "DB_HOST"},
		{name: "dash", log: "sh: 1: DATABASE_URL: parameter not set", variable: "DATABASE_URL"},
		{name: "bash", log: "/start.sh: line 2: DATABASE_URL: unbound variable", variable: "DATABASE_URL"},
		{name: "shell's own text", log: "sh: DATABASE_URL: tell me where the database is", args: []string{"-c", `: "${DATABASE_URL:?tell me where the database is}"`}, variable: "DATABASE_URL"},
		{name: "shell-like text", log: "ERROR: DATABASE: connection lost"},
		{name: "PostgreSQL's image", log: "Error: Database is uninitialized and superuser password is not specified.\n       You must specify POSTGRES_PASSWORD to a non-empty value for the\n       superuser.", variable: "POSTGRES_PASSWORD"},
		{name: "MySQL's image", log: "[ERROR] [Entrypoint]: Database is uninitialized and password option is not specified\n    You need to specify one of the following as an environment variable:\n    - MYSQL_ROOT_PASSWORD", variable: "MYSQL_ROOT_PASSWORD"},
		{name: "Spring", log: `java.lang.IllegalArgumentException: Could not resolve placeholder 'DB_HOST' in value "${DB_HOST}"`, variable: "DB_HOST", likely: true},
		{name: "Ruby", log: "app.rb:1:in `fetch': key not found: \"DB_HOST\" (KeyError)", variable: "DB_HOST", likely: true},
		{name: "in a project", log: "required key DB_HOST missing value", service: "web", variable: "DB_HOST", says: []string{"services: {web: {environment: {DB_HOST: VALUE}}}"}},
		{name: "all is well", log: "environment variables: PATH HOME\nlistening on PORT 80"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := &container.Evidence{
				Name: "c", Path: "/bin/app", Args: tt.args, Config: &ctypes.Config{Image: "img", Env: tt.env}, HostConfig: &ctypes.HostConfig{},
				State: &ctypes.State{Status: ctypes.StateExited}, Started: true, Endings: []container.Ending{{Code: 1}},
			}
			if tt.service != "" {
				e.Config.Labels = map[string]string{api.LabelService: tt.service}
			}
			found := why.FromLog(t.Context(), e, nil, strings.Split(tt.log, "\n")...)
			if tt.variable == "" {
				if len(found) > 0 {
					t.Errorf("it says %s", textOf(found[0]))
				}
				return
			}
			if len(found) == 0 || found[0].Cause != "missing-variable" {
				t.Fatalf("%+v", found)
			}
			if found[0].Probably != tt.likely {
				t.Errorf("probably: %v", found[0].Probably)
			}
			for _, part := range append(tt.says, tt.variable) {
				if !strings.Contains(textOf(found[0]), part) {
					t.Errorf("%q is missing in\n%s", part, textOf(found[0]))
				}
			}
		})
	}
}
