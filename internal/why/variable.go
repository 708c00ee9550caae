package why

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"muelle/api"
	"muelle/internal/spelling"
)

// variableName is what programs call environment variables; other words in capitals
// are too common to go by less.
const variableName = `([A-Z][A-Z0-9_]{2,})`

// complaint is what a program prints for want of an environment variable.
type complaint struct {
	re *pattern
	// near, unless nil, must match in the lines just before or after, or the line means
	// something else as often.
	near *pattern
	// likely says that the line leaves room for another cause.
	likely bool
	// upper says that the name is a field of the program's, which the variable has in
	// capitals.
	upper bool
}

var (
	wanting  = `(?:missing|required|not (?:been )?(?:set|found|defined|provided|specified|present)|isn't set|undefined|unset|is empty|must (?:be )?(?:set|provide|define)|need|no value)`
	ofPython = lazy(`os\.environ|os\.getenv|/os\.py", line \d+, in __getitem__|environ\[`)
	settings = lazy(`(?i)validation errors? for \w*(?:settings|config|env)\w*`)
)

var complaints = []complaint{
	{re: lazy(`^KeyError: ['"]` + variableName + `['"]`), near: ofPython},
	{re: lazy(`UndefinedValueError: ` + variableName + ` not found`)},
	{re: lazy(`(?i:\bset the) ` + variableName + ` (?i:environment variable)`)},
	{re: lazy(`process\.env\.` + variableName + `\b.*(?i:` + wanting + `)`)},
	{re: lazy(`(?i:\benv(?:ironment)?[ -]?var(?:iable)?s?\b)[^A-Za-z0-9_]*(?i:named |called |with name )?[^A-Za-z0-9_]*` + variableName + `\b.*(?i:` + wanting + `)`)},
	{re: lazy(`(?i:` + wanting + `).*(?i:\benv(?:ironment)?[ -]?var(?:iable)?s?\b)[^A-Za-z0-9_]*` + variableName + `\b`)},
	{re: lazy(`\b` + variableName + `\b["'` + "`" + `]?,? (?i:(?:environment|env)[ -]?var(?:iable)?)\b.*(?i:` + wanting + `)`)},
	{re: lazy(`(?i:` + wanting + `).*\b` + variableName + `\b["'` + "`" + `]? (?i:(?:environment|env)[ -]?var(?:iable)?)\b`)},
	{re: lazy(`(?i:\benv(?:ironment)?[ -]?var(?:iable)?s?\b,? (?:is |was |are )?` + wanting + `)[^A-Za-z0-9_]*` + variableName + `\b`)},
	{re: lazy(`(?i:required key) ` + variableName + ` (?i:missing value)`)},
	{re: lazy(`"` + variableName + `" is a required variable, but it was not set`)},
	{re: lazy(`(?:^|: )` + variableName + `: (?:parameter (?:null or )?not set|unbound variable)`)},
	{re: lazy(`(?i:you must specify|you need to specify|please (?:set|specify|provide)) ` + variableName + `\b`)},
	{re: lazy(`^\s*-\s*` + variableName + `\s*$`), near: lazy(`(?i)you need to specify one of the following`)},
	{re: lazy(`Could not resolve placeholder '` + variableName + `'`), likely: true},
	{re: lazy(`fetch'?: key not found: "` + variableName + `"`), likely: true},
	{re: lazy(`^([a-z][a-z0-9_]*)$`), near: settings, likely: true, upper: true},
}

// nearby is how many lines before and after belong to a complaint.
const nearby = 6

// missingVariable tells of an environment variable that the program asked for and the
// container has not. What the log says is held against the configuration: a variable
// that is set is not missing.
func (f *facts) missingVariable() []api.WhyFinding {
	if !f.failed() || len(f.told) > 0 {
		return nil
	}
	for i, line := range slices.Backward(f.logs) {
		name, c := f.complains(i)
		if c == nil {
			name, c = f.parameter(line)
		}
		if c == nil {
			continue
		}
		value, set := f.variable(name)
		if set && value != "" {
			continue
		}
		b := f.finding("missing-variable", "It needs the environment variable %s, which is not set.", name).because("log", "%s", strings.TrimSpace(line))
		if c.likely {
			b.probably()
		}
		if set {
			b.f.What = fmt.Sprintf("It needs a value in the environment variable %s, which is set, but empty.", name)
			b.because("configuration", "%s=", name)
		} else {
			b.because("configuration", "%s is neither among the container's variables (-e, --env-file) nor the image's (ENV)", name)
		}
		return f.howToSet(b, name).one()
	}
	return nil
}

// complains finds the variable that line i of the log is about.
func (f *facts) complains(i int) (string, *complaint) {
	for n := range complaints {
		c := &complaints[n]
		m := c.re.FindStringSubmatch(f.logs[i])
		if m == nil {
			continue
		}
		if c.near != nil && !slices.ContainsFunc(f.logs[max(0, i-nearby):min(len(f.logs), i+nearby)], c.near.MatchString) {
			continue
		}
		if c.upper {
			if i+1 >= len(f.logs) || !strings.Contains(strings.ToLower(f.logs[i+1]), "field required") {
				continue
			}
			return strings.ToUpper(m[1]), c
		}
		return m[1], c
	}
	return "", nil
}

var shellText = lazy(`(?:^|: )` + variableName + `: \S`)

// parameter finds a shell's ${NAME:?text}, whose text is anything: the command must
// have it.
func (f *facts) parameter(line string) (string, *complaint) {
	m := shellText.FindStringSubmatch(line)
	if m == nil {
		return "", nil
	}
	for _, arg := range append([]string{f.e.Path}, f.e.Args...) {
		if strings.Contains(arg, "${"+m[1]+":?") || strings.Contains(arg, "${"+m[1]+"?") {
			return m[1], &complaint{}
		}
	}
	return "", nil
}

func (f *facts) variable(name string) (value string, set bool) {
	for _, kv := range f.e.Config.Env {
		if k, v, _ := strings.Cut(kv, "="); k == name {
			value, set = v, true
		}
	}
	return value, set
}

// howToSet says what to do, and names a variable that looks like a slip of the pen.
func (f *facts) howToSet(b *builder, name string) *builder {
	for _, kv := range f.e.Config.Env {
		if k, _, _ := strings.Cut(kv, "="); k != name && alike(k, name) {
			b.because("configuration", "%s is set", k).do("Did you mean %s by %s?", name, k)
		}
	}
	if service := f.e.Config.Labels[api.LabelService]; service != "" {
		return b.do("In the Compose file: services: {%s: {environment: {%s: VALUE}}} (or env_file), then muelle compose up -d %s", service, name, service)
	}
	return b.do("A container's variables are fixed when it is made: muelle rm %s, and again with muelle run -e %s=VALUE … %s", f.e.Name, name, path.Clean(f.e.Config.Image))
}

// alike says that two names differ by no more than a letter or two, or by case.
func alike(a, b string) bool {
	if strings.EqualFold(a, b) {
		return true
	}
	if len(a) < 5 || len(b) < 5 {
		return false
	}
	return spelling.Distance(a, b) <= 2
}
