package compose

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"muelle/client"
)

// interruptible ends the context at the first SIGINT or SIGTERM.
func interruptible(ctx context.Context) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
}

// interrupted is exit code 130 where the user ended the command.
func interrupted(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return &exitError{code: 130}
	}
	return err
}

// forwardSignals gives the program's signals to a container until stopped.
func (a *app) forwardSignals(ctx context.Context, c *client.Client, id string) (stop func()) {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for s := range signals {
			name := map[os.Signal]string{os.Interrupt: "SIGINT", syscall.SIGTERM: "SIGTERM", syscall.SIGHUP: "SIGHUP", syscall.SIGQUIT: "SIGQUIT"}[s]
			// The container may have ended meanwhile.
			_ = c.Containers.Kill(ctx, id, name)
		}
	}()
	return func() {
		signal.Stop(signals)
		close(signals)
		<-done
	}
}
