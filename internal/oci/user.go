package oci

import (
	"io"
	"slices"

	"github.com/moby/sys/user"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// ResolveUser finds the ids for a USER value ("", name, uid, user:group …) and
// further groups, in the container's passwd and group files. The readers may be
// nil where the image has no such file; then only numbers are known.
func ResolveUser(spec string, groupAdd []string, passwd, group io.ReadSeeker) (specs.User, string, error) {
	// An interface that holds nothing, not a typed nil, is what the library tests for.
	var p, g io.Reader
	if passwd != nil {
		p = passwd
	}
	if group != nil {
		g = group
	}
	u, err := user.GetExecUser(spec, &user.ExecUser{Home: "/"}, p, g)
	if err != nil {
		return specs.User{}, "", invalid("%v", err) // "unable to find user x: …"
	}
	out := specs.User{UID: uint32(u.Uid), GID: uint32(u.Gid)}
	add := func(gid int) {
		for _, have := range out.AdditionalGids {
			if have == uint32(gid) {
				return
			}
		}
		out.AdditionalGids = append(out.AdditionalGids, uint32(gid))
	}
	// Docker lists the primary group among the supplementary ones (CVE-2022-36109).
	add(u.Gid)
	slices.Sort(u.Sgids)
	for _, gid := range u.Sgids {
		add(gid)
	}
	if len(groupAdd) > 0 {
		if group != nil {
			if _, err := group.Seek(0, io.SeekStart); err != nil {
				return specs.User{}, "", err
			}
		}
		gids, err := user.GetAdditionalGroups(groupAdd, g)
		if err != nil {
			return specs.User{}, "", invalid("unable to find group: %v", err)
		}
		slices.Sort(gids) // the library gives them in no order
		for _, gid := range gids {
			add(gid)
		}
	}
	return out, u.Home, nil
}
