package model

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/sirupsen/logrus"
)

var unsetVariable = regexp.MustCompile(`^The .* variable is not set\. Defaulting to a blank string\.$`)

// warnings are what compose-go logs while it loads, which is the only way it tells
// of unset variables.
type warnings struct {
	mu     sync.Mutex
	emit   func(string)
	seen   map[string]bool
	unset  []string // kept until the end: compose-go tells of them in any order
	looked []string // .env files that were looked for
	out    io.Writer
	hooks  logrus.LevelHooks
}

// captureWarnings diverts logrus's one logger until release, which tells of unset
// variables by the alphabet.
func captureWarnings(o Options) *warnings {
	w := &warnings{emit: o.Warn, seen: map[string]bool{}, out: logrus.StandardLogger().Out}
	logrus.SetOutput(io.Discard)
	w.hooks = logrus.StandardLogger().ReplaceHooks(logrus.LevelHooks{logrus.WarnLevel: {w}})
	return w
}

func (w *warnings) release() {
	slices.Sort(w.unset)
	for _, text := range w.unset {
		w.warn(text)
	}
	logrus.StandardLogger().ReplaceHooks(w.hooks)
	logrus.SetOutput(w.out)
}

// Levels and Fire are logrus.Hook.
func (w *warnings) Levels() []logrus.Level { return []logrus.Level{logrus.WarnLevel} }

// Fire takes one message.
func (w *warnings) Fire(e *logrus.Entry) error {
	if unsetVariable.MatchString(e.Message) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.unset = append(w.unset, e.Message+w.whereLooked())
		return nil
	}
	w.warn(e.Message)
	return nil
}

func (w *warnings) warn(text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.emit == nil || w.seen[text] {
		return
	}
	w.seen[text] = true
	w.emit(text)
}

// whereLooked says of each .env file whether it was there.
func (w *warnings) whereLooked() string {
	var parts []string
	for _, f := range w.looked {
		switch _, err := os.Stat(f); {
		case err == nil:
			parts = append(parts, f+": not set there")
		case errors.Is(err, fs.ErrNotExist):
			parts = append(parts, f+": no such file")
		default:
			parts = append(parts, fmt.Sprintf("%s: %v", f, errors.Unwrap(err)))
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return " (looked in " + strings.Join(parts, "; ") + ")"
}
