package config

import (
	"regexp"
	"strings"

	"github.com/moby/moby/api/types/network"

	"muelle/api"
)

// portName is a label of the domain name system (RFC 1035), as _NAME._tcp needs one.
var portName = regexp.MustCompile(`^[a-z0-9]([a-z0-9_-]{0,60}[a-z0-9])?$`)

// PortNames reads api.LabelPortNames, "web=8080/tcp,dns=53/udp": the ports by name and
// protocol, as web/tcp.
func PortNames(labels map[string]string) (map[string][]uint16, error) {
	text := labels[api.LabelPortNames]
	if text == "" {
		return nil, nil
	}
	names := map[string][]uint16{}
	for entry := range strings.SplitSeq(text, ",") {
		name, where, _ := strings.Cut(strings.TrimSpace(entry), "=")
		name = strings.ToLower(name)
		port, err := network.ParsePort(where)
		known := port.Proto() == network.TCP || port.Proto() == network.UDP || port.Proto() == network.SCTP
		if err != nil || !known || !portName.MatchString(name) || port.Num() == 0 {
			return nil, invalid("invalid label %s: %q is not NAME=PORT/PROTOCOL, as web=8080/tcp", api.LabelPortNames, entry)
		}
		key := name + "/" + string(port.Proto())
		names[key] = append(names[key], port.Num())
	}
	return names, nil
}
