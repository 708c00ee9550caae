package config_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	ctypes "github.com/moby/moby/api/types/container"

	"muelle/internal/container/config"
)

// What a client may send is bounded, and stays in its own line.
func TestStrangersRequests(t *testing.T) {
	many := strings.Split(strings.Repeat("A=b,", 1<<15+1), ",")[:1<<15+1]
	binds := make([]string, 1<<15+1)
	for i := range binds {
		binds[i] = fmt.Sprintf("/tmp:/m%d", i)
	}
	for _, tt := range []struct {
		name string
		c    ctypes.Config
		h    ctypes.HostConfig
		want string
	}{
		{name: "as much as there may be", c: ctypes.Config{Env: many[1:]}},
		{name: "environment", c: ctypes.Config{Env: many}, want: "32769 environment variables, and there may be 32768"},
		{name: "arguments", c: ctypes.Config{Cmd: many}, want: "32769 arguments, and there may be 32768"},
		{name: "mounts", h: ctypes.HostConfig{Binds: binds}, want: "32769 mounts, and there may be 32768"},
		{name: "hostname", c: ctypes.Config{Hostname: "a\nb"}, want: `invalid hostname "a\nb": it has control characters`},
		{name: "domain name", c: ctypes.Config{Domainname: "a\x1b[2J"}, want: "invalid domain name"},
		{name: "extra host", h: ctypes.HostConfig{ExtraHosts: []string{"x\n6.6.6.6 bank:1.2.3.4"}}, want: "invalid extra host"},
		{name: "search domain", h: ctypes.HostConfig{DNSSearch: []string{"x\nnameserver 6.6.6.6"}}, want: "invalid DNS search domain"},
		{name: "DNS option", h: ctypes.HostConfig{DNSOptions: []string{"x\rnameserver 6.6.6.6"}}, want: "invalid DNS option"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := config.Validate(&tt.c)
			if err == nil {
				err = config.ValidateHost(&tt.c, &tt.h)
			}
			switch {
			case tt.want == "" && err != nil:
				t.Error(err)
			case tt.want != "" && (!errdefs.IsInvalidArgument(err) || !strings.HasPrefix(err.Error(), tt.want)):
				t.Errorf("%v, want %s", err, tt.want)
			}
		})
	}
}
