//go:build root

package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// whoAnswers asks n times from one socket, which replica that is.
func whoAnswers(addr string, n int) (map[string]int, error) {
	conn, err := net.Dial("udp", addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	got, buf := map[string]int{}, make([]byte, 100)
	for range n {
		if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
			return nil, err
		}
		if _, err := conn.Write([]byte("who")); err != nil {
			return nil, err
		}
		read, err := conn.Read(buf)
		if err != nil {
			return nil, err
		}
		got[string(buf[:read])]++
	}
	return got, nil
}

// TestRelayedDatagramsKeepTheirReplica: by IPv6 to replicas without IPv6, any of their
// shims reads a datagram; a client's go to one replica all the same, and clients to all.
func TestRelayedDatagramsKeepTheirReplica(t *testing.T) {
	d := own(t)
	c := ours(d)
	file := filepath.Join(t.TempDir(), "compose.yaml")
	text := `
services:
  dns: {image: busybox, command: /echo 7777, ports: ["18404:7777/udp"], stop_signal: KILL, volumes: ["` + world.echo + `:/echo:ro"], deploy: {replicas: 3}}
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c.must(t, "compose", "-p", "relay", "-f", file, "up", "-d")
	t.Cleanup(func() { c.must(t, "compose", "-p", "relay", "-f", file, "down", "-t", "1") })
	const here = "[::1]:18404"
	if err := eventually(20*time.Second, func() error {
		all := map[string]bool{}
		for range 24 {
			got, err := whoAnswers(here, 1)
			if err != nil {
				return err
			}
			for name := range got {
				all[name] = true
			}
		}
		if len(all) != 3 {
			return fmt.Errorf("%d replicas answer", len(all))
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if got, err := whoAnswers(here, 20); err != nil || len(got) != 1 {
			t.Errorf("a client's datagrams are answered by %v, %v", got, err)
		}
	}
}
