package api_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"muelle/api"
)

// plain is a RunRequest as encoding/json alone writes it.
type plain api.RunRequest

func TestRunRequestIsReadAsItWasWritten(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	var requests []api.RunRequest
	for range 200 {
		var one api.RunRequest
		fill(r, reflect.ValueOf(&one).Elem(), 0)
		one.Ranges = nil
		requests = append(requests, one)
	}
	empty := []string{}
	requests = append(requests, api.RunRequest{}, api.RunRequest{
		Config:     &container.Config{Cmd: empty, Env: []string{"A=\"\u2028<&\x00"}, Labels: map[string]string{}},
		HostConfig: &container.HostConfig{MaskedPaths: empty, PortBindings: network.PortMap{network.MustParsePort("80/tcp"): {{HostIP: netip.MustParseAddr("::1"), HostPort: "8080"}}}},
	})
	for _, want := range requests {
		normal, err := json.Marshal(plain(want))
		if err != nil {
			t.Fatal(err)
		}
		short, err := json.Marshal(want)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		var a, b api.RunRequest
		if err := json.Unmarshal(normal, &a); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(short, &b); err != nil {
			t.Fatalf("seed %d: %v in %s", seed, err, short)
		}
		if diff := cmp.Diff(a, b, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}, network.Port{})); diff != "" {
			t.Fatalf("seed %d: %s", seed, diff)
		}
		if len(short) > len(normal) {
			t.Errorf("seed %d: %d bytes, without leaving out %d", seed, len(short), len(normal))
		}
	}
}

// fill sets a third of what can be set.
func fill(r *rand.Rand, v reflect.Value, depth int) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() && (r.IntN(3) == 0 || depth == 0) {
				fill(r, v.Field(i), depth+1)
			}
		}
	case reflect.Pointer:
		if depth < 6 {
			v.Set(reflect.New(v.Type().Elem()))
			fill(r, v.Elem(), depth)
		}
	case reflect.Slice:
		n := r.IntN(3)
		if v.Type().Elem().Kind() == reflect.Uint8 {
			n = 6 // a hardware address
		}
		v.Set(reflect.MakeSlice(v.Type(), n, 6))
		for i := range v.Len() {
			fill(r, v.Index(i), depth+1)
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(r, v.Index(i), depth+1)
		}
	case reflect.Map:
		if v.Type().Key().Kind() == reflect.String {
			v.Set(reflect.MakeMap(v.Type()))
			for range r.IntN(3) {
				key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
				fill(r, key, depth+1)
				fill(r, value, depth+1)
				v.SetMapIndex(key, value)
			}
		}
	case reflect.String:
		v.SetString([]string{"", "a", "ü\"\\\n", "<&>"}[r.IntN(4)])
	case reflect.Bool:
		v.SetBool(r.IntN(2) == 0)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(int64(r.IntN(100)))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(r.IntN(100)))
	}
}

func TestPortsThatFollowOneAnother(t *testing.T) {
	var want api.RunRequest
	want.Config = &container.Config{ExposedPorts: network.PortSet{}}
	want.HostConfig = &container.HostConfig{PortBindings: network.PortMap{}}
	publish := func(port string, bindings ...network.PortBinding) {
		want.Config.ExposedPorts[network.MustParsePort(port)] = struct{}{}
		want.HostConfig.PortBindings[network.MustParsePort(port)] = bindings
	}
	local := netip.MustParseAddr("127.0.0.1")
	for i := range 1000 {
		publish(fmt.Sprint(1+i), network.PortBinding{HostPort: fmt.Sprint(30000 + i)})
		publish(fmt.Sprint(64536+i, "/udp"), network.PortBinding{HostIP: local, HostPort: fmt.Sprint(64536 + i)})
	}
	publish("500", network.PortBinding{HostPort: "7"})
	publish("501", network.PortBinding{HostPort: "8000-8010"})
	publish("502", network.PortBinding{}, network.PortBinding{HostPort: "9"})
	publish("503", network.PortBinding{HostPort: "080"})
	publish("504")
	publish("65535", network.PortBinding{HostPort: "65535"})
	delete(want.Config.ExposedPorts, network.MustParsePort("505"))
	text, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	if len(text) > 2000 {
		t.Errorf("%d bytes for five ranges: %s", len(text), text)
	}
	var got api.RunRequest
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Addr{}, network.Port{})); diff != "" {
		t.Error(diff)
	}
}

func TestRangesOfStrangers(t *testing.T) {
	for name, text := range map[string]string{
		"no port":             `{"Proto": "tcp", "First": 0, "Host": 1, "Count": 1}`,
		"no port of the host": `{"Proto": "tcp", "First": 1, "Count": 1}`,
		"none":                `{"Proto": "tcp", "First": 1, "Host": 1, "Count": 0}`,
		"beyond the last":     `{"Proto": "tcp", "First": 65535, "Host": 1, "Count": 2}`,
		"beyond the host's":   `{"Proto": "tcp", "First": 1, "Host": 65535, "Count": 2}`,
		"too large a number":  `{"Proto": "tcp", "First": 1, "Host": 1, "Count": 9223372036854775807}`,
		"negative":            `{"Proto": "tcp", "First": 1, "Host": 1, "Count": -5}`,
		"no protocol":         `{"Proto": "", "First": 1, "Host": 1, "Count": 1}`,
		"unknown field":       `{"Proto": "tcp", "First": 1, "Host": 1, "Count": 1, "More": 1}`,
		"too many":            strings.Repeat(`{"Proto": "tcp", "First": 1, "Host": 1, "Count": 65535},`, 3) + `{"Proto": "tcp", "First": 1, "Host": 1, "Count": 1}`,
	} {
		var got api.RunRequest
		if err := json.Unmarshal([]byte(`{"Config": {}, "HostConfig": {}, "Ranges": [`+text+`]}`), &got); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if err := json.Unmarshal([]byte(`{"Ranges": [{"Proto": "tcp", "First": 1, "Host": 1, "Count": 1}]}`), new(api.RunRequest)); err == nil {
		t.Error("without a configuration: no error")
	}
}

// What follows one another is put back as it was, several bindings of a port in their order.
func TestBindingRanges(t *testing.T) {
	four, six, local := netip.IPv4Unspecified(), netip.IPv6Unspecified(), netip.MustParseAddr("127.0.0.1")
	want := network.PortMap{}
	bind := func(port int, bindings ...network.PortBinding) {
		want[network.MustParsePort(fmt.Sprint(port))] = bindings
	}
	for i := range 1000 {
		bind(1+i, network.PortBinding{HostIP: four, HostPort: fmt.Sprint(30000 + i)}, network.PortBinding{HostIP: six, HostPort: fmt.Sprint(30000 + i)})
	}
	bind(500, network.PortBinding{HostIP: local, HostPort: "30499"}, network.PortBinding{HostIP: six, HostPort: "30499"}, network.PortBinding{HostIP: six, HostPort: "7"})
	bind(700, network.PortBinding{HostIP: four, HostPort: "1"}, network.PortBinding{HostIP: six, HostPort: "08"})
	bind(800)
	bind(900, network.PortBinding{HostIP: four, HostPort: ""})
	rest, ranges := api.BindingRanges(want, func(p network.Port) bool { return p.Num() != 600 })
	if len(rest) != 4 || len(ranges) > 20 {
		t.Errorf("%d ranges, and %v", len(ranges), rest)
	}
	_, got, err := api.FromRanges(ranges, nil, rest)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Addr{}, network.Port{})); diff != "" {
		t.Error(diff)
	}
	// More than are put back stay as they are.
	many := network.PortMap{}
	for i := range 65535 {
		p, _ := network.PortFrom(uint16(i+1), network.TCP)
		b := network.PortBinding{HostPort: fmt.Sprint(i + 1)}
		many[p] = []network.PortBinding{b, b, b}
	}
	if rest, ranges := api.BindingRanges(many, func(network.Port) bool { return true }); len(rest) != len(many) || len(ranges) > 0 {
		t.Errorf("%d ranges and %d others", len(ranges), len(rest))
	}
}
