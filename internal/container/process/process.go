// Package process lists processes for `top`: by the host's ps where there is one, as
// Docker, and else as ps does, from /proc alone.
package process

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/sys/user"
)

// ClockTicks is USER_HZ, 100 on every architecture that we build for.
const ClockTicks = 100

// process is what /proc says of one process.
type process struct {
	pid, ppid, uid     int
	comm, args, tty    string
	stat               string
	cpu                time.Duration
	started            time.Time
	vsz, rss           uint64 // KiB
	nice               int
	alive              time.Duration
	memTotal, threads  uint64
	loginName, groupID string
}

// Column is one field of the list.
type Column struct {
	title string
	value func(p *process) string
}

// columns are the fields that top knows, by ps's names.
var columns = map[string]Column{
	"user":  {"USER", func(p *process) string { return p.loginName }},
	"uid":   {"UID", func(p *process) string { return strconv.Itoa(p.uid) }},
	"gid":   {"GID", func(p *process) string { return p.groupID }},
	"pid":   {"PID", func(p *process) string { return strconv.Itoa(p.pid) }},
	"ppid":  {"PPID", func(p *process) string { return strconv.Itoa(p.ppid) }},
	"c":     {"C", func(p *process) string { return strconv.Itoa(int(p.percent())) }},
	"pcpu":  {"%CPU", func(p *process) string { return fmt.Sprintf("%.1f", p.percent()) }},
	"pmem":  {"%MEM", func(p *process) string { return fmt.Sprintf("%.1f", 100*float64(p.rss)/float64(max(p.memTotal, 1))) }},
	"vsz":   {"VSZ", func(p *process) string { return strconv.FormatUint(p.vsz, 10) }},
	"rss":   {"RSS", func(p *process) string { return strconv.FormatUint(p.rss, 10) }},
	"nice":  {"NI", func(p *process) string { return strconv.Itoa(p.nice) }},
	"nlwp":  {"NLWP", func(p *process) string { return strconv.FormatUint(p.threads, 10) }},
	"stime": {"STIME", func(p *process) string { return startText(p.started, time.Now()) }},
	"start": {"START", func(p *process) string { return startText(p.started, time.Now()) }},
	"etime": {"ELAPSED", func(p *process) string { return elapsed(p.alive) }},
	"tty":   {"TTY", func(p *process) string { return p.tty }},
	"stat":  {"STAT", func(p *process) string { return p.stat }},
	"time":  {"TIME", func(p *process) string { return clock(p.cpu) }},
	"comm":  {"COMMAND", func(p *process) string { return p.comm }},
	"args":  {"COMMAND", func(p *process) string { return p.args }},
	"cmd":   {"CMD", func(p *process) string { return p.args }},
	"euser": {"UID", func(p *process) string { return p.loginName }},
}

var columnAliases = map[string]string{
	"%cpu": "pcpu", "%mem": "pmem", "command": "args", "ucmd": "comm", "ni": "nice", "state": "stat", "s": "stat", "tname": "tty", "tt": "tty",
	"uname": "user", "cputime": "time", "vsize": "vsz", "rssize": "rss", "euid": "uid", "start_time": "stime",
}

// layouts are the whole sets of fields that ps's options ask for.
var layouts = map[string][]string{
	"":    {"euser", "pid", "ppid", "c", "stime", "tty", "time", "cmd"},
	"aux": {"user", "pid", "pcpu", "pmem", "vsz", "rss", "tty", "stat", "start", "time", "args"},
}

// Parse turns ps's options into columns. Those that it does not know are
// errdefs.ErrNotImplemented.
func Parse(args string) ([]Column, error) {
	fields := strings.Fields(args)
	var names []string
	for i := 0; i < len(fields); i++ {
		switch f := fields[i]; {
		case f == "-ef" || f == "-e" || f == "-A" || f == "-f" || f == "ax" || f == "-ax":
		case f == "aux" || f == "-aux" || f == "axu" || f == "u":
			names = append(names, layouts["aux"]...)
		case (f == "-o" || f == "o" || f == "-eo" || f == "-Ao" || f == "axo") && i+1 < len(fields):
			i++
			names = append(names, strings.Split(fields[i], ",")...)
		case strings.HasPrefix(f, "-o"):
			names = append(names, strings.Split(f[2:], ",")...)
		default:
			return nil, errdefs.ErrNotImplemented.WithMessage("the option " + f + " of top" + " is not supported yet")
		}
	}
	if len(names) == 0 {
		names = layouts[""]
	}
	out := make([]Column, 0, len(names))
	for _, name := range names {
		name, title, renamed := strings.Cut(name, "=")
		name = strings.ToLower(name)
		if alias, ok := columnAliases[name]; ok {
			name = alias
		}
		col, ok := columns[name]
		if !ok {
			return nil, errdefs.ErrNotImplemented.WithMessage("the field " + name + " of top" + " is not supported yet")
		}
		if renamed {
			col.title = title
		}
		out = append(out, col)
	}
	return out, nil
}

// Titles gives the heads of the columns.
func Titles(columns []Column) []string {
	out := make([]string, len(columns))
	for i, c := range columns {
		out[i] = c.title
	}
	return out
}

// Rows reads the processes of these ids; those that have ended are left out.
func Rows(columns []Column, pids []int) ([][]string, error) {
	rows := [][]string{}
	host := readHost()
	for _, pid := range slices.Sorted(slices.Values(pids)) {
		p, err := host.process(pid)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return rows, err
		}
		row := make([]string, len(columns))
		for i, c := range columns {
			row[i] = c.value(p)
		}
		rows = append(rows, row)
	}
	return rows, nil
}

func (p *process) percent() float64 {
	if p.alive <= 0 {
		return 0
	}
	return 100 * p.cpu.Seconds() / p.alive.Seconds()
}

func startText(t, now time.Time) string {
	switch {
	case now.Sub(t) < 24*time.Hour && now.Day() == t.Day():
		return t.Format("15:04")
	case now.Year() == t.Year():
		return t.Format("Jan02")
	}
	return t.Format("2006")
}

func clock(d time.Duration) string {
	sec := int(d.Seconds())
	return fmt.Sprintf("%02d:%02d:%02d", sec/3600, sec/60%60, sec%60)
}

func elapsed(d time.Duration) string {
	sec := int(d.Seconds())
	switch {
	case sec >= 86400:
		return fmt.Sprintf("%d-%02d:%02d:%02d", sec/86400, sec/3600%24, sec/60%60, sec%60)
	case sec >= 3600:
		return fmt.Sprintf("%02d:%02d:%02d", sec/3600, sec/60%60, sec%60)
	}
	return fmt.Sprintf("%02d:%02d", sec/60, sec%60)
}

// host is what processes are measured against.
type host struct {
	boot     time.Time
	uptime   time.Duration
	memTotal uint64
	names    map[int]string
}

func readHost() host {
	h := host{names: map[int]string{}}
	if data, err := os.ReadFile("/proc/uptime"); err == nil {
		var up float64
		fmt.Sscan(string(data), &up)
		h.uptime = time.Duration(up * float64(time.Second))
		h.boot = time.Now().Add(-h.uptime)
	}
	if data, err := os.ReadFile("/proc/meminfo"); err == nil {
		fmt.Sscanf(string(data), "MemTotal: %d", &h.memTotal)
	}
	if users, err := user.ParsePasswdFile("/etc/passwd"); err == nil {
		for _, u := range users {
			if _, ok := h.names[u.Uid]; !ok {
				h.names[u.Uid] = u.Name
			}
		}
	}
	return h
}

// process reads /proc/PID: see proc_pid_stat(5) for the fields.
func (h *host) process(pid int) (*process, error) {
	dir := fmt.Sprintf("/proc/%d/", pid)
	stat, err := os.ReadFile(dir + "stat")
	if err != nil {
		return nil, gone(err)
	}
	open, end := strings.IndexByte(string(stat), '('), strings.LastIndexByte(string(stat), ')')
	if open < 0 || end < open {
		return nil, fmt.Errorf("read %sstat: malformed", dir)
	}
	f := strings.Fields(string(stat[end+1:])) // the first is field 3, the state
	if len(f) < 22 {
		return nil, fmt.Errorf("read %sstat: malformed", dir)
	}
	num := func(field int) uint64 {
		n, _ := strconv.ParseUint(f[field-3], 10, 64)
		return n
	}
	p := &process{pid: pid, comm: string(stat[open+1 : end]), stat: f[0], ppid: int(num(4)), threads: num(20), memTotal: h.memTotal}
	p.cpu = time.Duration(num(14)+num(15)) * time.Second / ClockTicks
	since := time.Duration(num(22)) * time.Second / ClockTicks
	p.started, p.alive = h.boot.Add(since), h.uptime-since
	p.vsz, p.rss = num(23)/1024, num(24)*uint64(os.Getpagesize())/1024
	p.nice, _ = strconv.Atoi(f[19-3])
	p.tty = ttyName(num(7))
	status, err := os.ReadFile(dir + "status")
	if err != nil {
		return nil, gone(err)
	}
	for line := range strings.Lines(string(status)) {
		key, value, _ := strings.Cut(line, ":")
		ids := strings.Fields(value)
		switch {
		case key == "Uid" && len(ids) > 1:
			p.uid, _ = strconv.Atoi(ids[1])
		case key == "Gid" && len(ids) > 1:
			p.groupID = ids[1]
		}
	}
	p.loginName = h.names[p.uid]
	if p.loginName == "" {
		p.loginName = strconv.Itoa(p.uid)
	}
	p.args = "[" + p.comm + "]"
	if cmdline, err := os.ReadFile(dir + "cmdline"); err == nil && len(cmdline) > 0 {
		p.args = strings.TrimSpace(strings.ReplaceAll(string(cmdline), "\x00", " "))
	}
	return p, nil
}

// gone turns ESRCH, which a read of a process that ends gives, into the usual error.
func gone(err error) error {
	if strings.Contains(err.Error(), "no such process") {
		return os.ErrNotExist
	}
	return err
}

func ttyName(dev uint64) string {
	major, minor := dev>>8&0xfff, dev&0xff|dev>>12&0xfff00
	switch {
	case dev == 0:
		return "?"
	case major >= 136 && major <= 143:
		return fmt.Sprintf("pts/%d", (major-136)<<8|minor)
	case major == 4:
		return fmt.Sprintf("tty%d", minor)
	}
	return "?"
}
