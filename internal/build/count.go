package build

import (
	"context"
	"strings"
	"sync/atomic"

	control "github.com/moby/buildkit/api/services/control"
	"google.golang.org/grpc"
)

// Reasons of failed builds, as Docker's builder names them.
const (
	Canceled     = "build_canceled"
	NoTarget     = "build_target_not_reachable_error"
	Unsupported  = "command_not_supported_error"
	EmptyFile    = "dockerfile_empty_error"
	Syntax       = "dockerfile_syntax_error"
	FailedStep   = "error_processing_commands_error"
	OnBuild      = "missing_onbuild_arguments_error"
	UnknownWord  = "unknown_instruction_error"
	reasonsCount = 8
)

// Reasons are all of them, sorted.
func Reasons() [reasonsCount]string {
	return [...]string{Canceled, NoTarget, Unsupported, EmptyFile, Syntax, FailedStep, OnBuild, UnknownWord}
}

// Counts is how many builds there were, by whichever client, and how many failed by
// the reasons of Reasons.
type Counts struct {
	Triggered uint64
	Failed    [reasonsCount]uint64
}

type counts struct {
	triggered atomic.Uint64
	failed    [reasonsCount]atomic.Uint64
}

// solve counts what all builds go through.
func (c *counts) solve(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if info.FullMethod != control.Control_Solve_FullMethodName {
		return next(ctx, req)
	}
	c.triggered.Add(1)
	resp, err := next(ctx, req)
	if err != nil {
		reason := Reason(ctx, err)
		for i, r := range Reasons() {
			if r == reason {
				c.failed[i].Add(1)
			}
		}
	}
	return resp, err
}

// Reason tells why a build failed by what BuildKit's frontend says.
func Reason(ctx context.Context, err error) string {
	if ctx.Err() != nil {
		return Canceled
	}
	text := err.Error()
	for _, r := range []struct{ part, reason string }{
		{"context canceled", Canceled},
		{"the Dockerfile cannot be empty", EmptyFile},
		{"file with no instructions", EmptyFile},
		{"unknown instruction", UnknownWord},
		{"dockerfile parse error", Syntax},
		{"target stage", NoTarget},
		{"is not supported", Unsupported},
	} {
		if strings.Contains(text, r.part) {
			return r.reason
		}
	}
	return FailedStep
}

// Counts gives the numbers since the daemon's start.
func (s *Service) Counts() Counts {
	c := Counts{Triggered: s.counts.triggered.Load()}
	for i := range s.counts.failed {
		c.Failed[i] = s.counts.failed[i].Load()
	}
	return c
}
