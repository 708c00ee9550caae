package server_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	containertypes "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	imagetypes "github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/system"

	"muelle/internal/event"
	"muelle/internal/server"
)

type measured struct{ server.System }

func (measured) DiskUsage(context.Context, []system.DiskUsageObject) (*system.DiskUsage, error) {
	return &system.DiskUsage{ImageUsage: &imagetypes.DiskUsage{TotalSize: 9, TotalCount: 1, Items: []imagetypes.Summary{{ID: "i"}}}}, nil
}

// keys are the names of an object's fields that have a value, nested ones too.
func keys(t *testing.T, body string, path ...string) map[string]bool {
	t.Helper()
	var raw json.RawMessage = []byte(body)
	for _, p := range path {
		var m map[string]json.RawMessage
		if err := json.Unmarshal(raw, &m); err != nil {
			t.Fatal(err)
		}
		raw = m[p]
	}
	var m map[string]json.RawMessage
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	for k, v := range m {
		out[k] = string(v) != "null"
	}
	return out
}

func TestDiskUsageByVersion(t *testing.T) {
	legacy := map[string]bool{"LayersSize": true, "Images": true, "Containers": false, "Volumes": false, "BuildCache": false}
	both := map[string]bool{"ImageUsage": true}
	for k, v := range legacy {
		both[k] = v
	}
	for _, tc := range []struct {
		name, path string
		want       map[string]bool
	}{
		{"1.51", "/v1.51/system/df", legacy},
		{"1.52", "/v1.52/system/df", both},
		{"1.52 verbose", "/v1.52/system/df?verbose=1", map[string]bool{"ImageUsage": true}},
		{"1.56", "/v1.56/system/df", map[string]bool{"ImageUsage": true}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := serve(t, server.Options{System: measured{}})
			_, body := h.do("GET", tc.path, "", "")
			if diff := cmp.Diff(tc.want, keys(t, body)); diff != "" {
				t.Error(diff)
			}
		})
	}
	h := serve(t, server.Options{System: measured{}})
	for path, want := range map[string]bool{"/v1.56/system/df": false, "/v1.56/system/df?verbose=true": true} {
		_, body := h.do("GET", path, "", "")
		if got := keys(t, body, "ImageUsage")["Items"]; got != want {
			t.Errorf("%s: items %v", path, got)
		}
	}
	if res, _ := h.do("GET", "/v1.56/system/df?type=bogus", "", ""); res.StatusCode != 400 {
		t.Errorf("unknown type: status %d", res.StatusCode)
	}
}

type inspected struct{ server.Containers }

func (inspected) Inspect(context.Context, string, bool) (*containertypes.InspectResponse, error) {
	return &containertypes.InspectResponse{ID: "c", NetworkSettings: &containertypes.NetworkSettings{
		SandboxID: "s",
		Networks:  map[string]*network.EndpointSettings{"bridge": {IPAddress: netip.MustParseAddr("172.17.0.2"), IPPrefixLen: 16}},
	}}, nil
}

func TestInspectByVersion(t *testing.T) {
	h := serve(t, server.Options{Containers: inspected{}})
	for path, want := range map[string]string{"/v1.51/containers/c/json": "172.17.0.2", "/v1.52/containers/c/json": ""} {
		_, body := h.do("GET", path, "", "")
		var got struct {
			ID              string `json:"Id"`
			NetworkSettings struct{ SandboxID, IPAddress string }
		}
		if err := json.Unmarshal([]byte(body), &got); err != nil {
			t.Fatal(err)
		}
		if got.ID != "c" || got.NetworkSettings.SandboxID != "s" || got.NetworkSettings.IPAddress != want {
			t.Errorf("%s: %+v", path, got)
		}
	}
}

type inspectedImage struct{ server.Images }

func (inspectedImage) Inspect(context.Context, string) (*imagetypes.InspectResponse, error) {
	return &imagetypes.InspectResponse{ID: "i"}, nil
}

// Docker Compose 1 breaks off in the middle of recreating without ContainerConfig.
func TestInspectImageForComposeV1(t *testing.T) {
	h := serve(t, server.Options{Images: inspectedImage{}})
	for agent, want := range map[string]bool{"docker-compose/1.29.2 docker-py/5.0.3 Linux/6.1": true, "docker-sdk-python/5.0.3": false} {
		req, err := http.NewRequest("GET", "http://muelle/v1.56/images/i/json", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("User-Agent", agent)
		res, err := h.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		var got map[string]json.RawMessage
		err = json.NewDecoder(res.Body).Decode(&got)
		res.Body.Close()
		if _, has := got["ContainerConfig"]; err != nil || has != want || string(got["Id"]) != `"i"` {
			t.Errorf("%s: %s, %v", agent, got, err)
		}
	}
}

func TestEventsByVersion(t *testing.T) {
	bus := event.NewBus(8)
	h := serve(t, server.Options{Bus: bus})
	bus.Publish(events.ContainerEventType, events.ActionStart, "c", map[string]string{"image": "busybox"})
	old := map[string]string{"status": "start", "id": "c", "from": "busybox", "Type": "container", "Action": "start"}
	for _, tc := range []struct {
		path, agent string
		want        map[string]string
	}{
		{"/v1.51/events?since=1&until=2000000000.5", "", old},
		{"/v1.52/events?since=1&until=2000000000.5", "", map[string]string{"Type": "container", "Action": "start"}},
		{"/v1.56/events?since=1&until=2000000000.5", "docker-compose/1.29.2 docker-py/5.0.3 Linux/6.1", old},
	} {
		path, want := tc.path, tc.want
		get, err := http.NewRequest("GET", "http://muelle"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		get.Header.Set("User-Agent", tc.agent)
		req, err := h.client.Do(get)
		if err != nil {
			t.Fatal(err)
		}
		var got map[string]any
		// The stream goes on: one document is there at once.
		if err := json.NewDecoder(req.Body).Decode(&got); err != nil {
			t.Fatal(err)
		}
		req.Body.Close()
		have := map[string]string{}
		for _, k := range []string{"status", "id", "from", "Type", "Action"} {
			if v, ok := got[k].(string); ok {
				have[k] = v
			}
		}
		if diff := cmp.Diff(want, have); diff != "" {
			t.Errorf("%s: %s", path, diff)
		}
	}
}
