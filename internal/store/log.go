package store

import (
	"context"
	"io"
	"log/slog"
	"sync"

	"github.com/sirupsen/logrus"
)

// bridge is process-wide because the logger that containerd's, BuildKit's and
// distribution's libraries share is.
var bridge sync.Once

// bridgeLogrus sends what the libraries log to log, once for the process; without
// it they write to standard error in a format of their own.
func bridgeLogrus(log *slog.Logger) {
	bridge.Do(func() {
		logger := logrus.StandardLogger()
		logger.SetOutput(io.Discard)
		logger.SetFormatter(discardFormatter{})
		logger.SetLevel(logrus.WarnLevel)
		if log.Enabled(context.Background(), slog.LevelDebug) {
			logger.SetLevel(logrus.DebugLevel)
		}
		logger.AddHook(slogHook{log})
	})
}

// chatter are warnings about what is meant to be so.
var chatter = map[string]bool{
	"failed check for fsverity support": true, // most filesystems lack it
	"no trace recorder found, skipping": true, // BuildKit's, at each build
	"healthcheck failed fatally":        true, // a build's client has gone
}

type discardFormatter struct{}

func (discardFormatter) Format(*logrus.Entry) ([]byte, error) { return nil, nil }

type slogHook struct{ log *slog.Logger }

func (slogHook) Levels() []logrus.Level { return logrus.AllLevels }

// Fire lowers levels by one: what a library calls an error is for its caller, who
// gets the error too, to judge.
func (h slogHook) Fire(e *logrus.Entry) error {
	level := slog.LevelDebug
	if e.Level <= logrus.WarnLevel && !chatter[e.Message] {
		level = slog.LevelWarn
	}
	attrs := make([]slog.Attr, 0, len(e.Data))
	for key, value := range e.Data {
		if key == logrus.ErrorKey {
			key = "err"
		}
		attrs = append(attrs, slog.Any(key, value))
	}
	h.log.LogAttrs(context.Background(), level, e.Message, attrs...)
	return nil
}
