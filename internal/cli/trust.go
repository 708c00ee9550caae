package cli

import (
	"errors"
	"os"
	"strconv"

	"github.com/spf13/pflag"
)

// errNoTrust says that nobody looks at signatures.
var errNoTrust = errors.New("content trust is not supported")

// untrusted registers --disable-content-trust. Under the name docker the variable
// DOCKER_CONTENT_TRUST turns its default round, as in Docker's client: who asks for
// signatures is told that none are looked at, instead of getting an image without.
func (a *app) untrusted(f *pflag.FlagSet, p *bool, usage string) {
	asked := false
	if v := os.Getenv("DOCKER_CONTENT_TRUST"); v != "" && a.name() == "docker" {
		yes, err := strconv.ParseBool(v)
		asked = yes || err != nil
	}
	f.BoolVar(p, "disable-content-trust", !asked, usage)
	f.Lookup("disable-content-trust").Hidden = true
}
