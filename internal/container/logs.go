package container

import (
	"context"
	"iter"

	"github.com/containerd/errdefs"

	"muelle/internal/logdriver"
	"muelle/internal/logdriver/reader"
)

// Logs gives what a container has printed, and with Follow what it prints until it
// ends or ctx does. Tty tells whether the container has a terminal.
func (s *Service) Logs(ctx context.Context, ref string, o LogOptions) (seq iter.Seq2[logdriver.Entry, error], tty bool, err error) {
	c, err := s.find(ref)
	if err != nil {
		return nil, false, err
	}
	if !o.Stdout && !o.Stderr {
		return nil, false, invalid("Bad parameters: you must choose at least one stream")
	}
	c.mu.Lock()
	rec, ended := c.rec, c.ended
	if !c.st.alive() {
		ended = closedChan
	}
	c.mu.Unlock()
	if rec.Log.Path == "" {
		return nil, false, errdefs.ErrNotImplemented.WithMessage("configured logging driver does not support reading")
	}
	if !o.Follow {
		return readLog(rec.Log, o.ReadOptions), rec.Config.Tty, nil
	}
	return reader.Follow(ctx, rec.Log, o.ReadOptions, ended), rec.Config.Tty, nil
}

func readLog(cfg logdriver.Config, o logdriver.ReadOptions) iter.Seq2[logdriver.Entry, error] {
	if cfg.Path == "" {
		return func(func(logdriver.Entry, error) bool) {}
	}
	return reader.Read(cfg, o)
}
