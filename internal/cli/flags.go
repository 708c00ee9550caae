package cli

import (
	"errors"
	"strings"

	"github.com/spf13/pflag"

	"muelle/client"
)

const formatHelp = `Format output using a custom template:
'table':            Print output in table format with column headers (default)
'table TEMPLATE':   Print output in table format using the given Go template
'json':             Print in JSON format
'TEMPLATE':         Print output using the given Go template.
Refer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates`

const inspectFormatHelp = `Format output using a custom template:
'json':             Print in JSON format
'TEMPLATE':         Print output using the given Go template.
Refer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates`

// filters is the flag --filter.
type filters struct{ client.Filters }

// Set adds NAME=VALUE.
func (f *filters) Set(s string) error {
	if s == "" {
		return nil
	}
	k, v, ok := strings.Cut(s, "=")
	if !ok {
		return errors.New("bad format of filter (expected name=value)")
	}
	f.Filters = f.Add(strings.ToLower(strings.TrimSpace(k)), strings.TrimSpace(v))
	return nil
}

// String shows nothing: there is no default.
func (f *filters) String() string { return "" }

// Type is the word in the help text.
func (*filters) Type() string { return "filter" }

// listFlags are those of the commands that list something.
type listFlags struct {
	quiet, noTrunc bool
	format         string
	filter         filters
}

func (l *listFlags) register(f *pflag.FlagSet, filterUsage, quietUsage, noTruncUsage string) {
	f.BoolVarP(&l.quiet, "quiet", "q", false, quietUsage)
	f.StringVar(&l.format, "format", "", formatHelp)
	f.VarP(&l.filter, "filter", "f", filterUsage)
	if noTruncUsage != "" {
		f.BoolVar(&l.noTrunc, "no-trunc", false, noTruncUsage)
	}
}

// pick chooses a list's format: the one given, the configured one, the table.
func pick(given, configured string) string {
	if given != "" {
		return given
	}
	if configured != "" {
		return configured
	}
	return "table"
}
