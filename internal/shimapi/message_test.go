package shimapi_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"muelle/internal/logdriver"
	"muelle/internal/shimapi"
)

func fullStart() *shimapi.Start {
	return &shimapi.Start{
		BootID: "boot", ID: "abc", CgroupsPath: "/muelle/abc", Root: "/run/x/root",
		Namespaces: []shimapi.Namespace{{Flag: 0x20000, Joined: false}, {Flag: 0x40000000, Joined: true}},
		Tasks:      8, Into: true, Hostname: "h", Domainname: "d", RootPropagation: 1 << 19,
		Rootfs:       []shimapi.Mount{{Type: "overlay", Source: "overlay", Options: []string{"lowerdir=/a:/b"}}},
		ReadonlyRoot: true,
		Mounts: []shimapi.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc", Flags: 14},
			{Destination: "/x", Source: "/y", Bind: true, Recursive: true, ROnly: true, Propagation: 5, Cleared: 2},
		},
		Devices: []shimapi.Device{{Path: "/dev/null", Mode: 0o20666, Number: 259, UID: 1, GID: 2}},
		Links:   []shimapi.Link{{Path: "/dev/fd", Target: "/proc/self/fd"}},
		Masked:  []string{"/proc/kcore"}, Readonly: []string{"/proc/sys"},
		Sysctls: []shimapi.Sysctl{{Path: "net/ipv4/ip_forward", Value: "0"}},
		Process: shimapi.Process{
			Args: []string{"sh", "-c", ""}, Env: []string{"PATH=/bin"}, Cwd: "/", UID: 1 << 31, GID: 7,
			Groups: []uint32{1, 2}, Umask: -1, Bounding: 1 << 63, Effective: 1, Permitted: 2, Ambient: 4,
			NoNewPrivs: true, Filter: []byte{1, 2, 3}, FilterFlags: 2, Terminal: true, OOMScoreAdj: -999, SetOOM: true,
			Rlimits: []shimapi.Rlimit{{Resource: 7, Soft: 1, Hard: ^uint64(0)}},
		},
		OpenStdin: true, StdinOnce: true, Width: 80, Height: 24,
		Log:    logdriver.Config{Type: "json-file", Path: "/l", MaxSize: 10, MaxFile: 3, Compress: true, Extra: "{}"},
		Attach: []shimapi.Attach{{Stdin: true, Stdout: true}},
		Held:   []shimapi.Held{{Name: "dns", Relay: []byte{10, 0, 0, 1}, RelayPort: 80, Datagram: true}, {Name: "sctp", Farewell: []byte{1}, Messages: true}},
		Init:   true, OOMFile: "/o", KillFile: "/k", ProcsFile: "/p", SharedPID: true,
		Hooks: shimapi.Hooks{
			CreateRuntime: []shimapi.Hook{{Path: "/h"}}, CreateContainer: []shimapi.Hook{{Path: "/h", Args: []string{"h", ""}, Env: []string{"A=b"}, Timeout: 5}},
			Poststart: []shimapi.Hook{{Path: "/i"}}, State: []byte("{"), Dir: "/run/x",
		},
	}
}

func fullKept() *shimapi.Kept {
	return &shimapi.Kept{
		State: shimapi.State{Version: 1, ID: "abc", Pid: 9, PidStart: 1 << 60, StartedAt: -1, Terminal: true},
		Start: *fullStart(), Tasks: []int{7, 8}, Into: -1, User: 9, Mounts: -1,
		Log:    shimapi.KeptLog{FD: 10, Next: 3, Partial: 1 << 40, Lines: []shimapi.KeptLine{{Stream: 2, Text: []byte("half a"), Since: -1}}},
		Logged: shimapi.Logged{Partial: 1, Unread: 2, Unwritten: 3},
		Processes: []shimapi.KeptProcess{
			{Pid: 9, PidFD: 11, Master: -1, Slave: -1, In: shimapi.KeptStdin{FD: 12, Once: true, Feeders: []int{13, 14}},
				Outputs: []shimapi.KeptOutput{{FD: 15, Stream: 1, Sinks: []int{16}}, {FD: -1, Stream: 2}}},
			{ID: "e", Pid: 10, PidFD: 17, Master: 18, Slave: 19, Record: []byte("r"), In: shimapi.KeptStdin{FD: 20, TTY: true},
				Outputs: []shimapi.KeptOutput{{FD: 18, Stream: 1, Sinks: []int{21, 22}}}},
		},
		Ended: []shimapi.Execed{{ID: "x", Record: []byte{1}, Exit: shimapi.Exited{Ended: true, Code: 3}}},
		Conns: []shimapi.KeptConn{{FD: 3, Told: true}, {FD: 23}},
		Held:  []shimapi.KeptHeld{{FD: 24, Held: shimapi.Held{Name: "p", Relay: []byte{10, 0, 0, 1}, RelayPort: 80, Messages: true}}},
	}
}

// A descriptor that is not told is closed: all are, each once.
func TestKeptDescriptors(t *testing.T) {
	want := []int{3, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24}
	got := fullKept().Descriptors()
	slices.Sort(got)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestRoundTrip(t *testing.T) {
	tests := []struct {
		name     string
		in, want shimapi.Message
	}{
		{"start", fullStart(), &shimapi.Start{}},
		{"empty start", &shimapi.Start{}, &shimapi.Start{}},
		{"hello", &shimapi.Hello{Version: 1, Started: true, Exit: shimapi.Exited{Ended: true, Code: 137, Signal: 9, At: -5, OOMKilled: true}, State: shimapi.State{Pid: 9, PidStart: 1 << 60}}, &shimapi.Hello{}},
		{"reply", &shimapi.Reply{Code: 127, Error: `exec: "x"`, Pid: 3, Names: []string{"a", ""}}, &shimapi.Reply{}},
		{"exec", &shimapi.Exec{ID: "e", OpenStdin: true, Unconfined: true, Width: 1, Attach: []shimapi.Attach{{Process: "e", Stderr: true}}}, &shimapi.Exec{}},
		{"signal", &shimapi.Signal{Process: "e", Signal: 15}, &shimapi.Signal{}},
		{"kept", fullKept(), &shimapi.Kept{}},
		{"empty kept", &shimapi.Kept{}, &shimapi.Kept{}},
		{"resize", &shimapi.Resize{Width: 65535}, &shimapi.Resize{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := shimapi.Decode(shimapi.Encode(tt.in), tt.want); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.in, tt.want); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestOlderPeer(t *testing.T) {
	b := shimapi.Encode(&shimapi.Signal{Process: "e", Signal: 15})
	var m shimapi.Signal
	if err := shimapi.Decode(b[:2], &m); err != nil {
		t.Fatalf("a message without its last field: %v", err)
	}
	if m.Process != "e" || m.Signal != 0 {
		t.Errorf("got %+v", m)
	}
	if err := shimapi.Decode(append(b, 1, 2, 3), &m); err != nil || m.Signal != 15 {
		t.Errorf("a message with further fields: %+v, %v", m, err)
	}
}

func TestMalformed(t *testing.T) {
	for name, b := range map[string][]byte{
		"string too long":   {0x05, 'a'},
		"endless number":    {0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80},
		"unfinished number": {0x01, 'a', 0x80},
	} {
		t.Run(name, func(t *testing.T) {
			if err := shimapi.Decode(b, &shimapi.Signal{}); err == nil {
				t.Error("no error")
			}
		})
	}
}

func TestFrame(t *testing.T) {
	b := shimapi.AppendFrame(nil, shimapi.TypeSignal, 77, 3, &shimapi.Signal{Process: "e", Signal: 15})
	h, ok := shimapi.ParseHeader(b)
	want := shimapi.Header{Length: uint32(len(b) - shimapi.HeaderSize), Seq: 77, FDs: 3, Type: shimapi.TypeSignal}
	if !ok || h != want {
		t.Errorf("got %+v, %v, want %+v", h, ok, want)
	}
	if _, ok := shimapi.ParseHeader([]byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0}); ok {
		t.Error("a frame of 4 GiB was accepted")
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(shimapi.Encode(fullStart()))
	f.Add([]byte{1, 2, 3})
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, m := range []shimapi.Message{&shimapi.Start{}, &shimapi.Hello{}, &shimapi.Exec{}, &shimapi.Reply{}} {
			if shimapi.Decode(b, m) != nil {
				continue
			}
			again := shimapi.Encode(m)
			if err := shimapi.Decode(again, m); err != nil {
				t.Fatalf("what was encoded does not decode: %v", err)
			}
		}
	})
}
