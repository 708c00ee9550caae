package api

import (
	"bytes"
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
	if r.Config == nil || r.HostConfig == nil {
		return r
	}
	exposed, bindings, ranges := ToRanges(r.Config.ExposedPorts, r.HostConfig.PortBindings)
	if len(ranges) == 0 {
		return r
	}
	config, host := *r.Config, *r.HostConfig
	config.ExposedPorts, host.PortBindings = exposed, bindings
	r.Config, r.HostConfig, r.Ranges = &config, &host, append(slices.Clone(r.Ranges), ranges...)
	return r
}

// ToRanges takes out of exposed ports and of their bindings what FromRanges puts back, in
// copies, where there are many.
func ToRanges(exposed network.PortSet, bindings network.PortMap) (network.PortSet, network.PortMap, []PortRange) {
	rest, list := BindingRanges(bindings, func(p network.Port) bool { _, ok := exposed[p]; return ok })
	if len(list) == 0 {
		return exposed, bindings, nil
	}
	unbound := network.PortSet{}
	for p := range exposed {
		_, bound := bindings[p]
		if _, left := rest[p]; left || !bound {
			unbound[p] = struct{}{}
		}
	}
	return unbound, rest, list
}

// BindingRanges is ToRanges for the bindings of those ports that use tells.
func BindingRanges(bindings network.PortMap, use func(network.Port) bool) (rest network.PortMap, list []PortRange) {
	if len(bindings) < fewPorts {
		return bindings, nil // they are as short themselves
	}
	rest = network.PortMap{}
	ports := make([]nth, 0, len(bindings))
	for p, bound := range bindings {
		before := len(ports)
		for at, b := range bound {
			host, err := strconv.ParseUint(b.HostPort, 10, 16)
			if err != nil || host == 0 || b.HostPort[0] == '0' || b.HostPort[0] == '+' {
				break
			}
			ports = append(ports, nth{PortRange{p.Proto(), p.Num(), uint16(host), 1, b.HostIP}, at})
		}
		if len(ports)-before != len(bound) || len(bound) == 0 || !use(p) {
			ports, rest[p] = ports[:before], bound
		}
	}
	if len(ports) > mostPorts {
		return bindings, nil
	}
	return rest, joined(ports)
}

// nth is one of a port's bindings, counted from 0.
type nth struct {
	PortRange
	at int
}

// joined are ports with neighbours made one, the first bindings of all before the second.
func joined(ports []nth) (list []PortRange) {
	// Numbers are sorted several times as fast as what they stand for.
	order := make([]uint64, len(ports))
	for i, p := range ports {
		order[i] = uint64(min(p.at, 1<<16-1))<<48 | uint64(p.First)<<32 | uint64(i)
	}
	slices.Sort(order)
	open, at := map[network.IPProtocol]int{}, 0 // the last of each protocol
	for _, o := range order {
		p := ports[o&(1<<32-1)]
		if p.at != at {
			clear(open)
			at = p.at
		}
		if i, ok := open[p.Proto]; ok {
			last := &list[i]
			if last.HostIP == p.HostIP && int(last.First)+last.Count == int(p.First) && int(last.Host)+last.Count == int(p.Host) {
				last.Count++
				continue
			}
		}
		open[p.Proto] = len(list)
		list = append(list, p.PortRange)
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

func (r *RunRequest) expand() (err error) {
	ranges := r.Ranges
	if r.Ranges = nil; len(ranges) == 0 {
		return nil
	}
	if r.Config == nil || r.HostConfig == nil {
		return errors.New("ranges of ports need a Config and a HostConfig")
	}
	r.Config.ExposedPorts, r.HostConfig.PortBindings, err = FromRanges(ranges, r.Config.ExposedPorts, r.HostConfig.PortBindings)
	return err
}

// FromRanges gives copies of exposed ports and their bindings that have those of ranges too.
func FromRanges(ranges []PortRange, exposed network.PortSet, bindings network.PortMap) (network.PortSet, network.PortMap, error) {
	total := 0
	for _, one := range ranges {
		if one.First == 0 || one.Host == 0 || one.Count < 1 || one.Count > 1<<16 || max(int(one.First), int(one.Host))+one.Count > 1<<16 {
			return nil, nil, fmt.Errorf("invalid range of ports: %d from %d at %d", one.Count, one.First, one.Host)
		}
		if total += one.Count; total > mostPorts {
			return nil, nil, errors.New("too many ports")
		}
		if _, ok := network.PortFrom(one.First, one.Proto); !ok {
			return nil, nil, fmt.Errorf("no protocol of ports from %d", one.First)
		}
	}
	allExposed, all := make(network.PortSet, total+len(exposed)), make(network.PortMap, total+len(bindings))
	maps.Copy(allExposed, exposed)
	maps.Copy(all, bindings)
	room := make([]network.PortBinding, total)
	for _, one := range ranges {
		for i := range one.Count {
			p, _ := network.PortFrom(one.First+uint16(i), one.Proto)
			allExposed[p] = struct{}{}
			room[0] = network.PortBinding{HostIP: one.HostIP, HostPort: strconv.Itoa(int(one.Host) + i)}
			if before := all[p]; len(before) > 0 {
				all[p] = append(before[:len(before):len(before)], room[0])
			} else {
				all[p] = room[:1:1]
			}
			room = room[1:]
		}
	}
	return allExposed, all, nil
}
