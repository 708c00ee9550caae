//go:build root

package network_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/godbus/dbus/v5"
)

// firewalld answers on a bus of its own as the real one does, and puts into the
// kernel what the real one puts there for an interface in the zone trusted.
type firewalld struct {
	t    testing.TB
	mu   sync.Mutex
	zone map[string]string
	nft  func(string)
	// rule is what an interface in the zone trusted adds.
	rule string
}

const (
	busName   = "org.fedoraproject.FirewallD1"
	ruleOfOne = "insert rule inet firewalld filter_FORWARD_ZONES iifname %q accept"
)

func startFirewalld(t testing.TB, nft func(string)) *firewalld {
	t.Helper()
	f := &firewalld{t: t, zone: map[string]string{}, nft: nft, rule: ruleOfOne}
	path := filepath.Join(t.TempDir(), "bus")
	l, err := net.Listen("unix", path)
	must(t, err)
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+path)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if err := f.serve(c); err != nil && !errors.Is(err, io.EOF) {
				t.Error(err)
			}
			c.Close()
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return f
}

// serve speaks what a client hears of a bus: authentication, Hello, method calls.
func (f *firewalld) serve(c net.Conn) error {
	in := bufio.NewReader(c)
	if _, err := in.ReadByte(); err != nil {
		return err
	}
	for began := false; !began; {
		line, err := in.ReadString('\n')
		if err != nil {
			return err
		}
		answer := ""
		switch word := strings.Fields(line); {
		case word[0] == "BEGIN":
			began = true
		case word[0] == "AUTH" && len(word) > 1:
			answer = "OK 0123456789abcdef0123456789abcdef\r\n"
		case word[0] == "AUTH":
			answer = "REJECTED EXTERNAL\r\n"
		case word[0] == "NEGOTIATE_UNIX_FD":
			answer = "ERROR\r\n"
		}
		if _, err := io.WriteString(c, answer); err != nil {
			return err
		}
	}
	for serial := uint32(1); ; serial++ {
		m, err := dbus.DecodeMessage(in)
		if err != nil {
			return err
		}
		reply := f.reply(m)
		reply.Headers[dbus.FieldReplySerial] = dbus.MakeVariant(m.Serial())
		var b bytes.Buffer
		if err := reply.EncodeTo(&b, binary.LittleEndian); err != nil {
			return err
		}
		binary.LittleEndian.PutUint32(b.Bytes()[8:], serial)
		if _, err := c.Write(b.Bytes()); err != nil {
			return err
		}
	}
}

func (f *firewalld) reply(m *dbus.Message) *dbus.Message {
	member, _ := m.Headers[dbus.FieldMember].Value().(string)
	body, err := f.call(member, m.Body)
	if err != nil {
		r := &dbus.Message{Type: dbus.TypeError, Headers: map[dbus.HeaderField]dbus.Variant{
			dbus.FieldErrorName: dbus.MakeVariant("org.fedoraproject.FirewallD1.Exception"),
			dbus.FieldSignature: dbus.MakeVariant(dbus.SignatureOf("")),
		}, Body: []any{err.Error()}}
		return r
	}
	return &dbus.Message{Type: dbus.TypeMethodReply, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldSignature: dbus.MakeVariant(dbus.SignatureOf(body)),
	}, Body: []any{body}}
}

func (f *firewalld) call(member string, args []any) (any, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	text := func(i int) string { s, _ := args[i].(string); return s }
	switch member {
	case "Hello":
		return ":1.1", nil
	case "getZones":
		return []string{"block", "public", "trusted"}, nil
	case "getZoneOfInterface":
		return f.zone[text(0)], nil
	case "addInterface":
		if f.zone[text(1)] != "" {
			return nil, fmt.Errorf("ZONE_ALREADY_SET: %s", text(1))
		}
		f.zone[text(1)] = text(0)
		f.nft(fmt.Sprintf(f.rule, text(1)))
		return text(0), nil
	case "removeInterface":
		if f.zone[text(1)] != text(0) {
			return nil, fmt.Errorf("UNKNOWN_INTERFACE: %s", text(1))
		}
		delete(f.zone, text(1))
		return text(0), nil
	}
	return nil, fmt.Errorf("no method %s", member)
}

// reload forgets what is not permanent.
func (f *firewalld) reload(rules string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.zone)
	f.nft("delete table inet firewalld\n" + rules)
}

func (f *firewalld) zones() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []string
	for b, z := range f.zone {
		list = append(list, b+" "+z)
	}
	slices.Sort(list)
	return list
}
