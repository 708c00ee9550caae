package kmsg_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"muelle/internal/linux/kmsg"
)

func TestParse(t *testing.T) {
	boot := time.Unix(1000, 0)
	got, ok := kmsg.Parse("6,339,5140900,-,caller=T1;NET: Registered protocol\n SUBSYSTEM=x\n", boot)
	if want := (kmsg.Line{At: boot.Add(5140900 * time.Microsecond), Text: "NET: Registered protocol"}); !ok || !cmp.Equal(want, got) {
		t.Errorf("%+v %v", got, ok)
	}
	for _, bad := range []string{"", ";x", "6,1,x,-;y", "6,1,-5,-;y", "6,1,99999999999999999999,-;y"} {
		if l, ok := kmsg.Parse(bad, boot); ok {
			t.Errorf("%q is %+v", bad, l)
		}
	}
}

func TestPids(t *testing.T) {
	for text, want := range map[string][]string{
		"oom-kill:constraint=CONSTRAINT_MEMCG,task=sh,pid=1604,uid=0":                     {"1604"},
		"Memory cgroup out of memory: Killed process 1604 (sh) total-vm:43236kB":          {"1604"},
		"segv[2070]: segfault at 0 ip 000000000040007a sp 00007fff error 6 in segv[7a,1]": {"2070"},
		"audit: type=1326 audit(1.2:2): auid=1 ses=4 pid=2004 comm=\"mkdir\" sig=31":      {"2004"},
		"traps: x[12] trap invalid opcode":                                                {"12"},
		"br0: port 1(veth) entered forwarding state":                                      nil,
	} {
		if diff := cmp.Diff(want, kmsg.Pids(text)); diff != "" {
			t.Errorf("%s: %s", text, diff)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("6,339,5140900,-;text")
	f.Fuzz(func(t *testing.T, s string) {
		if l, ok := kmsg.Parse(s, time.Unix(0, 0)); ok {
			kmsg.Pids(l.Text)
		}
	})
}
