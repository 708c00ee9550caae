package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/docker/go-units"

	"muelle/internal/build"
	"muelle/internal/filter"
)

// builder is Docker's key of that name. As Docker's, its keys are taken in any case.
type builder struct {
	GC struct {
		Enabled              *bool
		DefaultKeepStorage   bytesText // 20.10's name of the next
		DefaultReservedSpace bytesText
		DefaultMaxUsedSpace  bytesText
		DefaultMinFreeSpace  bytesText
		Policy               []builderRule
	}
	Entitlements struct {
		NetworkHost      *bool `json:"network-host"`
		SecurityInsecure *bool `json:"security-insecure"`
		Device           *bool `json:"device"`
	}
}

type builderRule struct {
	All           bool
	Filter        ruleFilters
	KeepStorage   bytesText // 20.10's name of the next
	ReservedSpace bytesText
	MaxUsedSpace  bytesText
	MinFreeSpace  bytesText
}

// bytesText is a size as people write it.
type bytesText int64

// UnmarshalJSON implements json.Unmarshaler.
func (b *bytesText) UnmarshalJSON(data []byte) error {
	var s string
	if err := json.Unmarshal(data, &s); err != nil {
		return json.Unmarshal(data, (*int64)(b))
	}
	if s == "" {
		return nil
	}
	n, err := units.RAMInBytes(s)
	*b = bytesText(n)
	return err
}

// ruleFilters are a list of KEY=VALUE, or Docker's older object of objects.
type ruleFilters filter.Args

// UnmarshalJSON implements json.Unmarshaler.
func (f *ruleFilters) UnmarshalJSON(data []byte) error {
	args := filter.Args{}
	var list []string
	if err := json.Unmarshal(data, &list); err != nil {
		a, err := filter.Parse(string(data))
		*f = ruleFilters(a)
		return err
	}
	for _, s := range list {
		k, v, ok := strings.Cut(s, "=")
		if k = strings.ToLower(strings.TrimSpace(k)); !ok || k == "" {
			return fmt.Errorf("invalid filter %q: want KEY=VALUE", s)
		}
		args[k] = append(args[k], strings.TrimSpace(v))
	}
	*f = ruleFilters(args)
	return nil
}

// UnmarshalJSON implements json.Unmarshaler: what is not known is refused.
func (b *builder) UnmarshalJSON(data []byte) error {
	type plain builder
	d := json.NewDecoder(strings.NewReader(string(data)))
	d.DisallowUnknownFields()
	if err := d.Decode((*plain)(b)); err != nil {
		return fmt.Errorf("builder: %w", err)
	}
	return nil
}

// keep is what of the build cache is kept.
func (b *builder) keep() build.Keep {
	gc := &b.GC
	k := build.Keep{
		Never:    gc.Enabled != nil && !*gc.Enabled,
		Reserved: int64(max(gc.DefaultReservedSpace, gc.DefaultKeepStorage)), MaxUsed: int64(gc.DefaultMaxUsedSpace), MinFree: int64(gc.DefaultMinFreeSpace),
	}
	for _, r := range gc.Policy {
		k.Rules = append(k.Rules, build.PruneOptions{
			All: r.All, Filters: filter.Args(r.Filter),
			ReservedSpace: int64(max(r.ReservedSpace, r.KeepStorage)), MaxUsedSpace: int64(r.MaxUsedSpace), MinFreeSpace: int64(r.MinFreeSpace),
		})
	}
	return k
}

func (b *builder) check() error {
	yes := func(p *bool) bool { return p != nil && *p }
	switch {
	case yes(b.Entitlements.SecurityInsecure):
		return errors.New("builder: entitlements: security-insecure is not supported: no step of a build has privileges")
	case yes(b.Entitlements.Device):
		return errors.New("builder: entitlements: device is not supported: no step of a build has devices of the host")
	}
	if err := b.keep().Check(); err != nil {
		return fmt.Errorf("builder: gc: %w", err)
	}
	return nil
}

// noHostNetwork refuses builds on the host's network.
func (b *builder) noHostNetwork() bool {
	return b.Entitlements.NetworkHost != nil && !*b.Entitlements.NetworkHost
}
