package container

import (
	"github.com/moby/moby/api/types/network"

	"muelle/api"
)

// Pack implements meta.Packed: a thousand ports are 60 KiB of JSON to write with every
// change of the state, or one range.
func (r *record) Pack() (*record, int) {
	exposed, bindings, ranges := api.ToRanges(r.Config.ExposedPorts, r.HostConfig.PortBindings)
	if len(ranges) == 0 {
		return r, recordPlain
	}
	packed, config, host := *r, *r.Config, *r.HostConfig
	config.ExposedPorts, host.PortBindings = exposed, bindings
	packed.Config, packed.HostConfig, packed.Ranges = &config, &host, ranges
	return &packed, recordVersion
}

// Unpack implements meta.Packed.
func (r *record) Unpack() (err error) {
	if len(r.Ranges) == 0 || r.Config == nil || r.HostConfig == nil {
		return nil
	}
	r.Config.ExposedPorts, r.HostConfig.PortBindings, err = api.FromRanges(r.Ranges, r.Config.ExposedPorts, r.HostConfig.PortBindings)
	r.Ranges = nil
	return err
}

// Pack implements meta.Packed.
func (st *state) Pack() (*state, int) {
	rest, ranges := api.BindingRanges(st.Ports, func(network.Port) bool { return true })
	if len(ranges) == 0 {
		return st, recordPlain
	}
	packed := *st
	packed.Ports, packed.Ranges = rest, ranges
	return &packed, recordVersion
}

// Unpack implements meta.Packed.
func (st *state) Unpack() (err error) {
	if len(st.Ranges) > 0 {
		_, st.Ports, err = api.FromRanges(st.Ranges, nil, st.Ports)
		st.Ranges = nil
	}
	return err
}
