package shim_test

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"muelle/internal/shim"
)

// control is a control message.
func control(level, kind int32, data []byte) []byte {
	b := make([]byte, unix.CmsgSpace(len(data)))
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
	h.Level, h.Type = level, kind
	h.SetLen(unix.CmsgLen(len(data)))
	copy(b[unix.CmsgLen(0):], data)
	return b
}

// received is struct sctp_rcvinfo of linux/sctp.h.
type received struct {
	stream, number, flags uint16
	_                     uint16
	ppid, tsn, cumulative uint32
	context               uint32
	association           int32
}

func (r received) bytes() []byte {
	return slices.Clone((*[unsafe.Sizeof(r)]byte)(unsafe.Pointer(&r))[:])
}

func TestReceivedInfo(t *testing.T) {
	info := received{stream: 513, number: 9, flags: 1, ppid: 0x01020304, tsn: 1 << 31, association: 7}.bytes()
	ordered := received{stream: 2, flags: 0xfffe, ppid: 46}.bytes()
	for _, tc := range []struct {
		name string
		oob  []byte
		want shim.MessageInfo
		ok   bool
	}{
		{"unordered", control(unix.IPPROTO_SCTP, 3, info), shim.MessageInfo{Stream: 513, Unordered: true, PPID: 0x01020304}, true},
		{"other flags", control(unix.IPPROTO_SCTP, 3, ordered), shim.MessageInfo{Stream: 2, PPID: 46}, true},
		{"after others", slices.Concat(control(unix.SOL_SOCKET, 3, []byte{1, 2, 3, 4, 5}), control(unix.IPPROTO_SCTP, 1, make([]byte, 32)), control(unix.IPPROTO_SCTP, 3, info)), shim.MessageInfo{Stream: 513, Unordered: true, PPID: 0x01020304}, true},
		{"none", nil, shim.MessageInfo{}, false},
		{"another protocol's", control(unix.SOL_SOCKET, 3, info), shim.MessageInfo{}, false},
		{"short", control(unix.IPPROTO_SCTP, 3, info[:20]), shim.MessageInfo{}, false},
		{"cut", control(unix.IPPROTO_SCTP, 3, info)[:40], shim.MessageInfo{}, false},
		{"no length", make([]byte, 64), shim.MessageInfo{}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, ok := shim.ReceivedInfo(tc.oob)
			if d := cmp.Diff(tc.want, got); d != "" || ok != tc.ok {
				t.Errorf("ok %v, want %v (-want +got):\n%s", ok, tc.ok, d)
			}
		})
	}
}

func TestSendingInfo(t *testing.T) {
	// struct sctp_sndinfo: stream, flags, identifier, context, association.
	data := binary.NativeEndian.AppendUint16(nil, 513)
	data = binary.NativeEndian.AppendUint16(data, 1)
	data = binary.NativeEndian.AppendUint32(data, 0x01020304)
	data = append(data, make([]byte, 8)...)
	if got, want := shim.SendingInfo(shim.MessageInfo{Stream: 513, Unordered: true, PPID: 0x01020304}), control(unix.IPPROTO_SCTP, 2, data); !bytes.Equal(got, want) {
		t.Errorf("got %x, want %x", got, want)
	}
}

func TestNotice(t *testing.T) {
	// struct sctp_assoc_change: type, flags, length, state.
	change := func(state uint16) []byte {
		b := binary.NativeEndian.AppendUint16(nil, 0x8001)
		b = append(b, make([]byte, 6)...)
		return append(binary.NativeEndian.AppendUint16(b, state), make([]byte, 10)...)
	}
	for _, tc := range []struct {
		name string
		b    []byte
		want int
	}{
		{"up", change(0), shim.NoticeNone}, {"lost", change(1), shim.NoticeLost}, {"begun anew", change(2), shim.NoticeLost},
		{"shut down", change(3), shim.NoticeEnd}, {"not begun", change(4), shim.NoticeLost}, {"unheard of", change(9), shim.NoticeNone},
		{"partial delivery", append(binary.NativeEndian.AppendUint16(nil, 0x8006), make([]byte, 22)...), shim.NoticeCut},
		{"another", append(binary.NativeEndian.AppendUint16(nil, 0x8005), make([]byte, 22)...), shim.NoticeNone},
		{"short", change(3)[:9], shim.NoticeNone}, {"nothing", nil, shim.NoticeNone},
	} {
		if got := shim.Notice(tc.b); got != tc.want {
			t.Errorf("%s: got %d, want %d", tc.name, got, tc.want)
		}
	}
}

func FuzzReceivedInfo(f *testing.F) {
	f.Add(control(unix.IPPROTO_SCTP, 3, received{stream: 1, flags: 1, ppid: 2}.bytes()))
	f.Add(control(unix.SOL_SOCKET, 1, []byte{1, 2, 3}))
	f.Fuzz(func(t *testing.T, oob []byte) {
		shim.Notice(oob)
		info, ok := shim.ReceivedInfo(oob)
		if !ok && info != (shim.MessageInfo{}) {
			t.Errorf("%+v of what is none", info)
		}
		if b := shim.SendingInfo(info); len(b) != unix.CmsgSpace(16) {
			t.Errorf("%d bytes", len(b))
		}
	})
}
