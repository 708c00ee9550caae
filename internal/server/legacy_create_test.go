package server_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	containertypes "github.com/moby/moby/api/types/container"

	"muelle/internal/container"
	"muelle/internal/server"
)

// creating remembers what is to be created.
type creating struct {
	server.Containers
	got container.CreateOptions
}

func (c *creating) Create(_ context.Context, o container.CreateOptions) (containertypes.CreateResponse, error) {
	c.got = o
	return containertypes.CreateResponse{ID: "x"}, nil
}

func TestCreateByOldClients(t *testing.T) {
	const mac = "02:42:ac:11:00:09"
	for _, tc := range []struct {
		name, body, refused string
		macs                map[string]string
	}{
		{"none", `{"Image":"i","HostConfig":{"Memory":7}}`, "", map[string]string{}},
		{"default network", `{"Image":"i","MacAddress":"` + mac + `","HostConfig":{"Memory":7}}`, "", map[string]string{"default": mac}},
		{"one endpoint", `{"Image":"i","MacAddress":"` + mac + `","HostConfig":{"Memory":7},"NetworkingConfig":{"EndpointsConfig":{"front":null}}}`, "", map[string]string{"front": mac}},
		{"main of two", `{"Image":"i","MacAddress":"` + mac + `","HostConfig":{"Memory":7,"NetworkMode":"back"},"NetworkingConfig":{"EndpointsConfig":{"front":{},"back":{}}}}`, "", map[string]string{"front": "", "back": mac}},
		{"both differ", `{"Image":"i","MacAddress":"` + mac + `","NetworkingConfig":{"EndpointsConfig":{"front":{"MacAddress":"02:42:ac:11:00:08"}}}}`, "must match the endpoint-specific MAC address", nil},
		{"host", `{"Image":"i","MacAddress":"` + mac + `","HostConfig":{"NetworkMode":"host"}}`, "conflicting options: mac-address and the network mode", nil},
		{"no address", `{"Image":"i","MacAddress":"x"}`, "invalid MAC address", nil},
		{"empty", `{}`, "config cannot be empty", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := &creating{}
			h := serve(t, server.Options{Containers: c})
			res, body := h.do("POST", "/v1.40/containers/create", "application/json", tc.body)
			if tc.refused != "" {
				if res.StatusCode != http.StatusBadRequest || !strings.Contains(body, tc.refused) {
					t.Errorf("%d %s", res.StatusCode, body)
				}
				return
			}
			macs := map[string]string{}
			if n := c.got.Networking; n != nil {
				for name, e := range n.EndpointsConfig {
					macs[name] = ""
					if e != nil {
						macs[name] = e.MacAddress.String()
					}
				}
			}
			if diff := cmp.Diff(tc.macs, macs); diff != "" {
				t.Error(diff)
			}
			if c.got.Config.Image != "i" || c.got.HostConfig.Memory != 7 {
				t.Errorf("got %+v %+v", c.got.Config, c.got.HostConfig)
			}
		})
	}
}

func TestKernelMemoryIsWarnedOf(t *testing.T) {
	h := serve(t, server.Options{Containers: &creating{}})
	res, body := h.do("POST", "/v1.40/containers/create", "application/json", `{"Image":"i","HostConfig":{"KernelMemory":7}}`)
	if res.StatusCode != http.StatusCreated || !strings.Contains(body, "Your kernel does not support kernel memory limit capabilities") {
		t.Errorf("%d %s", res.StatusCode, body)
	}
}
