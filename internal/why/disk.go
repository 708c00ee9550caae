package why

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"muelle/api"
)

// noSpace says which file system is full.
func (f *facts) noSpace(line string) *builder {
	p := f.pathIn(line)
	if m := f.mountOf(p); p != "" && m != nil {
		b := f.finding("disk-full", "There was no space left to write %s, in %s.", p, source(*m))
		f.space(b, m.Source)
		return b.do("Free space there: df -h %s, muelle system df", orWord(m.Source, m.Destination))
	}
	if strings.HasPrefix(p, "/dev/shm") {
		return f.finding("disk-full", "The shared memory of the container, /dev/shm, was full.").
			because("configuration", "its size is %s", bytes(f.e.HostConfig.ShmSize)).do("Give it more: --shm-size %s", bytes(4*f.e.HostConfig.ShmSize))
	}
	for dest, options := range f.e.HostConfig.Tmpfs {
		if within(p, dest) {
			return f.finding("disk-full", "There was no space left to write %s: the tmpfs at %s was full.", p, dest).
				because("configuration", "tmpfs options: %s", orWord(options, "none")).do("Give it more: --tmpfs %s:size=…", dest)
		}
	}
	b := f.finding("disk-full", "There was no space left on the disk of the engine's data.")
	if free := f.space(b, f.e.Dir); free > 5 {
		b.f.What = "There was no space left on a file system that the container wrote to; there is some now."
		b.probably()
	}
	return b.do("muelle system df; muelle system prune")
}

// space tells how much of a file system is free, in per cent; 100 where nobody knows.
func (f *facts) space(b *builder, at string) float64 {
	var st unix.Statfs_t
	if err := unix.Statfs(at, &st); at == "" || err != nil || st.Blocks == 0 {
		return 100
	}
	free := 100 * float64(st.Bavail) / float64(st.Blocks)
	inodes := ""
	if st.Files > 0 && st.Ffree*100 < st.Files {
		inodes = ", and no inodes"
		free = 0
	}
	b.because("statfs", "%s: %s%% free%s", at, fmt.Sprintf("%.1f", free), inodes)
	return free
}

// diskFull tells of a disk that is full now, although no line says so.
func (f *facts) diskFull() []api.WhyFinding {
	if !f.failed() || len(f.told) > 0 {
		return nil
	}
	var st unix.Statfs_t
	if err := unix.Statfs(f.e.Dir, &st); err != nil || st.Bavail*int64Size(st.Bsize) > 1<<20 {
		return nil
	}
	return f.finding("disk-full", "The disk of the engine's data is full.").probably().because("statfs", "%s: less than 1 MiB free", f.e.Dir).
		do("muelle system df; muelle system prune").one()
}

func int64Size(n int64) uint64 { return uint64(max(0, n)) }
