package api

// Zone says what a network may do: x-zone in a Compose file, --zone of network
// create, or driver options below ZoneOption. Empty fields were not said, and mean
// what Docker does.
type Zone struct {
	// Publish says who may reach the ports published through the network: none, host,
	// lan (this host, and what is on a link of it) or any. Where it was said, this host
	// reaches nothing else of the network's containers either.
	Publish string `json:",omitempty"`
	// Egress says where its containers may begin connections to, beside their own
	// network: the one word none or any, or names (*.NAME for what is below one),
	// addresses and prefixes.
	Egress []string `json:",omitempty"`
	// Between is deny where containers of the network do not reach each other, or allow.
	Between string `json:",omitempty"`
}

// Words of a Zone.
const (
	ZoneNone  = "none"
	ZoneHost  = "host"
	ZoneLAN   = "lan"
	ZoneAny   = "any"
	ZoneAllow = "allow"
	ZoneDeny  = "deny"
)

// ZoneOption starts the driver options of a network that are its zone:
// io.muelle.zone.publish, io.muelle.zone.egress (separated by commas) and
// io.muelle.zone.between.
const ZoneOption = "io.muelle.zone."
