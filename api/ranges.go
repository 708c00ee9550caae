package api

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"

	"github.com/moby/moby/api/types/network"
)

// PortRange stands for Count ports of a container from First on, exposed and each
// published at the port of the host that is as far from Host.
type PortRange struct {
	Proto       network.IPProtocol
	First, Host uint16
	Count       int
	HostIP      netip.Addr // the zero Addr: none was asked for
}

// fewPorts are sent as Docker's fields.
const fewPorts = 16

// ranged gives a copy of a request that has its ports as Ranges, as far as they follow one
// another: a thousand of them are 60 KiB to write and to read otherwise.
func (r RunRequest) ranged() RunRequest {
	if r.Config == nil || r.HostConfig == nil || len(r.HostConfig.PortBindings) < fewPorts {
		return r
	}
	var ports []PortRange
	for p, bindings := range r.HostConfig.PortBindings {
		if _, exposed := r.Config.ExposedPorts[p]; !exposed || len(bindings) != 1 {
			continue
		}
		host, err := strconv.ParseUint(bindings[0].HostPort, 10, 16)
		if err == nil && host > 0 && strconv.FormatUint(host, 10) == bindings[0].HostPort {
			ports = append(ports, PortRange{p.Proto(), p.Num(), uint16(host), 1, bindings[0].HostIP})
		}
	}
	slices.SortFunc(ports, func(a, b PortRange) int {
		return cmp.Or(int(a.First)-int(b.First), cmp.Compare(a.Proto, b.Proto))
	})
	config, host := *r.Config, *r.HostConfig
	config.ExposedPorts, host.PortBindings = maps.Clone(config.ExposedPorts), maps.Clone(host.PortBindings)
	for _, p := range ports {
		key := portOf(p.First, p.Proto)
		delete(config.ExposedPorts, key)
		delete(host.PortBindings, key)
	}
	r.Config, r.HostConfig, r.Ranges = &config, &host, append(slices.Clone(r.Ranges), joined(ports)...)
	return r
}

func portOf(number uint16, proto network.IPProtocol) network.Port {
	p, _ := network.PortFrom(number, proto)
	return p
}

// joined are sorted ports with neighbours made one.
func joined(ports []PortRange) (list []PortRange) {
	open := map[network.IPProtocol]int{} // the last of each protocol
	for _, p := range ports {
		if i, ok := open[p.Proto]; ok {
			last := &list[i]
			if last.HostIP == p.HostIP && int(last.First)+last.Count == int(p.First) && int(last.Host)+last.Count == int(p.Host) {
				last.Count++
				continue
			}
		}
		open[p.Proto] = len(list)
		list = append(list, p)
	}
	return list
}

// UnmarshalJSON knows no field but RunRequest's, and gives ports as Docker's fields.
func (r *RunRequest) UnmarshalJSON(data []byte) error {
	type fields RunRequest
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode((*fields)(r)); err != nil {
		return err
	}
	return r.expand()
}

// mostPorts bounds what a few bytes can grow to.
const mostPorts = 1 << 17

func (r *RunRequest) expand() error {
	ranges := r.Ranges
	if r.Ranges = nil; len(ranges) == 0 {
		return nil
	}
	if r.Config == nil || r.HostConfig == nil {
		return errors.New("ranges of ports need a Config and a HostConfig")
	}
	total := 0
	for _, one := range ranges {
		if one.First == 0 || one.Host == 0 || one.Count < 1 || one.Count > 1<<16 || max(int(one.First), int(one.Host))+one.Count > 1<<16 {
			return fmt.Errorf("invalid range of ports: %d from %d at %d", one.Count, one.First, one.Host)
		}
		if total += one.Count; total > mostPorts {
			return errors.New("too many ports")
		}
		if _, ok := network.PortFrom(one.First, one.Proto); !ok {
			return fmt.Errorf("no protocol of ports from %d", one.First)
		}
	}
	exposed, bindings := make(network.PortSet, total+len(r.Config.ExposedPorts)), make(network.PortMap, total+len(r.HostConfig.PortBindings))
	maps.Copy(exposed, r.Config.ExposedPorts)
	maps.Copy(bindings, r.HostConfig.PortBindings)
	for _, one := range ranges {
		for i := range one.Count {
			p := portOf(one.First+uint16(i), one.Proto)
			exposed[p] = struct{}{}
			bindings[p] = append(bindings[p], network.PortBinding{HostIP: one.HostIP, HostPort: strconv.Itoa(int(one.Host) + i)})
		}
	}
	r.Config.ExposedPorts, r.HostConfig.PortBindings = exposed, bindings
	return nil
}
