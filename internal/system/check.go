package system

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"muelle/api"
	"muelle/internal/check"
)

// leaker is a noun that tells what of its things nobody needs.
type leaker interface {
	Leaks(ctx context.Context) ([]check.Leak, error)
}

// Check looks for what this instance has left on the host and nothing owns, and for
// damaged data; with repair it mends what it finds. Containers may start and end
// meanwhile: what belongs to one that does is not found.
func (s *Service) Check(ctx context.Context, repair bool) (*api.CheckReport, error) {
	leaks, err := s.runtimeLeaks(ctx)
	if err != nil {
		return nil, fmt.Errorf("check processes: %w", err)
	}
	for _, noun := range []struct {
		name string
		of   leaker
	}{{"containers", s.o.Containers}, {"volumes", s.o.Volumes}, {"networks", s.o.Networks}, {"builds", s.o.Builds}, {"images", s.o.Images}} {
		found, err := noun.of.Leaks(ctx)
		if err != nil {
			return nil, fmt.Errorf("check %s: %w", noun.name, err)
		}
		leaks = append(leaks, found...)
	}
	others, err := s.otherMounts()
	if err != nil {
		return nil, err
	}
	if leaks, err = check.Certain(ctx, append(leaks, others...)); err != nil {
		return nil, err
	}
	corrupt, read, err := s.o.Images.CorruptBlobs(ctx)
	if err != nil {
		return nil, fmt.Errorf("check blobs: %w", err)
	}
	report := &api.CheckReport{Blobs: read}
	report.Findings, report.Notes = check.Findings(ctx, append(leaks, corrupt...), repair)
	for _, w := range s.o.Networks.Firewalls() {
		report.Findings = append(report.Findings, api.Finding{Kind: "firewall of others", Name: "this host", Problem: w})
	}
	return report, nil
}

func (s *Service) runtimeLeaks(ctx context.Context) ([]check.Leak, error) {
	if s.o.Runtime == nil {
		return nil, nil
	}
	return s.o.Runtime.Leaks(ctx, func(id string) bool { return s.o.Containers.Runs(id) || s.o.Builds.Runs(id) })
}

// otherMounts are those below the exec-root that are no noun's. Below the data-root
// the engine mounts nothing that is no noun's: what is there is the administrator's,
// who may have given the store or the volumes a disk of their own.
func (s *Service) otherMounts() ([]check.Leak, error) {
	if s.o.ExecRoot == "" {
		return nil, nil
	}
	points, err := check.MountsBelow(s.o.ExecRoot)
	if err != nil {
		return nil, err
	}
	var leaks []check.Leak
	for _, p := range points {
		top, _, below := strings.Cut(strings.TrimPrefix(p, s.o.ExecRoot+"/"), "/")
		if below && slices.Contains([]string{"containers", "build"}, top) || p == s.o.DataRoot || strings.HasPrefix(p, s.o.DataRoot+"/") {
			continue
		}
		leaks = append(leaks, check.Leak{
			Finding: api.Finding{Kind: "mount", Name: p, Problem: "nothing of the engine mounted it"},
			There:   func() bool { return check.IsMounted(p) },
			Mend:    func(context.Context) error { return unix.Unmount(p, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW) },
		})
	}
	return leaks, nil
}
