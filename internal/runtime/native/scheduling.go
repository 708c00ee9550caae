package native

import (
	"encoding/binary"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"muelle/internal/shimapi"
)

// personality is the execution domain, by linux/personality.h.
func personality(out *shimapi.Process, p *specs.LinuxPersonality) error {
	if p == nil {
		return nil
	}
	if len(p.Flags) > 0 {
		return unsupported("personality flag " + string(p.Flags[0]))
	}
	switch p.Domain {
	case specs.PerLinux:
		out.Personality = 0
	case specs.PerLinux32:
		out.Personality = 8
	default:
		return errdefs.ErrInvalidArgument.WithMessage("unknown personality " + string(p.Domain))
	}
	out.SetDomain = true
	return nil
}

var policies = map[specs.LinuxSchedulerPolicy]uint32{
	specs.SchedOther: 0, specs.SchedFIFO: 1, specs.SchedRR: 2, specs.SchedBatch: 3,
	specs.SchedISO: 4, specs.SchedIdle: 5, specs.SchedDeadline: 6,
}

var schedulerFlags = map[specs.LinuxSchedulerFlag]uint64{
	specs.SchedFlagResetOnFork: 1, specs.SchedFlagReclaim: 2, specs.SchedFlagDLOverrun: 4, specs.SchedFlagKeepPolicy: 8,
	specs.SchedFlagKeepParams: 16, specs.SchedFlagUtilClampMin: 32, specs.SchedFlagUtilClampMax: 64,
}

// scheduler is struct sched_attr of sched_setattr(2).
func scheduler(s *specs.Scheduler) ([]byte, error) {
	policy, ok := policies[s.Policy]
	if !ok {
		return nil, errdefs.ErrInvalidArgument.WithMessage("unknown scheduler policy " + string(s.Policy))
	}
	var flags uint64
	for _, f := range s.Flags {
		bit, ok := schedulerFlags[f]
		if !ok {
			return nil, errdefs.ErrInvalidArgument.WithMessage("unknown scheduler flag " + string(f))
		}
		flags |= bit
	}
	e := binary.NativeEndian
	b := e.AppendUint32(nil, 48) // the structure's first version
	b = e.AppendUint32(b, policy)
	b = e.AppendUint64(b, flags)
	b = e.AppendUint32(b, uint32(s.Nice))
	b = e.AppendUint32(b, uint32(s.Priority))
	b = e.AppendUint64(b, s.Runtime)
	b = e.AppendUint64(b, s.Deadline)
	return e.AppendUint64(b, s.Period), nil
}

// ioPriority is ioprio_set(2)'s value; the class is never 0 here.
func ioPriority(p *specs.LinuxIOPriority) (uint32, error) {
	class, ok := map[specs.IOPriorityClass]uint32{specs.IOPRIO_CLASS_RT: 1, specs.IOPRIO_CLASS_BE: 2, specs.IOPRIO_CLASS_IDLE: 3}[p.Class]
	if !ok {
		return 0, errdefs.ErrInvalidArgument.WithMessage("unknown I/O priority class " + string(p.Class))
	}
	if p.Priority < 0 || p.Priority > 7 {
		return 0, errdefs.ErrInvalidArgument.WithMessage("I/O priority is 0 to 7")
	}
	return class<<13 | uint32(p.Priority), nil
}

// scheduling translates what belongs to the processor and the disk.
func scheduling(out *shimapi.Process, in *specs.Process) (err error) {
	if in.Scheduler != nil {
		if out.Scheduler, err = scheduler(in.Scheduler); err != nil {
			return err
		}
	}
	if in.IOPriority != nil {
		out.IOPriority, err = ioPriority(in.IOPriority)
	}
	return err
}
