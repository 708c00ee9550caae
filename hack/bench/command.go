package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// patience is how long a command may take; longPatience how long one that publishes a
// thousand ports may, which costs some engines two processes and several rules each.
const patience, longPatience = 2 * time.Minute, 10 * time.Minute

// strikes is how many rows an engine may spoil by commands that do not end before it is
// left out of those that follow.
const strikes = 2

// command is a command of an engine. It cannot run for ever: when its time is over, its
// process group is killed.
type command struct {
	engine *engine  // or nil
	args   []string // the program first
	shown  []string // what a reader needs of them, or nil
	limit  time.Duration
}

// deadlineError says that a command did not end.
type deadlineError struct {
	command string
	limit   time.Duration
}

func (e *deadlineError) Error() string {
	return fmt.Sprintf("`%s` did not end within %v and was killed", e.command, e.limit)
}

// notMeasured is why an engine has nothing to compare in a row.
type notMeasured string

func (e notMeasured) Error() string { return string(e) }

// String is the command as a user would type it, without the bench's own folders.
func (c *command) String() string {
	words := c.args
	if c.engine != nil && c.shown != nil {
		words = append([]string{strings.ToLower(c.engine.name)}, c.shown...)
	}
	text := strings.Join(words, " ")
	if len(text) > 80 {
		text = text[:80] + "…"
	}
	return text
}

func (c *command) within(limit time.Duration) *command {
	c.limit = limit
	return c
}

// run runs the command and gives what it took in milliseconds; a failure quotes what
// it complained of.
func (c *command) run(stdout *bytes.Buffer) (float64, error) {
	env := os.Environ()
	if c.engine != nil {
		if c.engine.out != nil {
			return 0, c.engine.out
		}
		env = append(env, c.engine.env...)
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.args[0], c.args[1:]...)
	cmd.Env = env
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if stdout != nil {
		cmd.Stdout = stdout
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	// What left the group may hold the pipes yet.
	cmd.WaitDelay = 10 * time.Second
	begin := time.Now()
	err := cmd.Run()
	took := time.Since(begin)
	switch {
	case ctx.Err() != nil && err != nil:
		return 0, &deadlineError{c.String(), c.limit}
	case err != nil:
		return 0, fmt.Errorf("`%s`: %w: %s", c, err, strings.TrimSpace(stderr.String()))
	}
	return float64(took.Microseconds()) / 1000, nil
}

// timed runs the command and gives what it took in milliseconds.
func (c *command) timed() (float64, error) { return c.run(nil) }

// do runs the command.
func (c *command) do() error {
	_, err := c.run(nil)
	return err
}

// output runs the command and gives what it printed.
func (c *command) output() (string, error) {
	var out bytes.Buffer
	_, err := c.run(&out)
	return strings.TrimSpace(out.String()), err
}

// strike counts a command that did not end against its engine, which is left out after
// the second of them: each costs its whole time.
func (e *engine) strike(err error) {
	var late *deadlineError
	if !errors.As(err, &late) {
		return
	}
	if e.struck++; e.struck == strikes {
		e.out = notMeasured(fmt.Sprintf("left out after %d commands that did not end, the last: %s", strikes, late))
	}
}
