package id

var adjectives = [...]string{
	"able", "agile", "amber", "ample", "azure", "bold", "brave", "breezy", "bright", "brisk",
	"calm", "candid", "clear", "clever", "coastal", "cool", "crisp", "curious", "daring", "deft",
	"eager", "early", "fair", "fleet", "fluent", "fond", "frank", "fresh", "gentle", "glad",
	"golden", "grand", "happy", "hardy", "honest", "humble", "jolly", "keen", "kind", "lively",
	"loyal", "lucid", "mellow", "merry", "mighty", "modest", "neat", "nimble", "noble", "patient",
	"placid", "plucky", "proud", "quick", "quiet", "rapid", "ready", "robust", "salty", "serene",
	"sharp", "silent", "silver", "sleek", "smart", "smooth", "snug", "solid", "steady", "sturdy",
	"sunny", "swift", "tidy", "trusty", "upbeat", "vivid", "warm", "wise", "witty", "zesty",
}

var nouns = [...]string{
	"albatross", "anchor", "anchovy", "barge", "barnacle", "beacon", "bollard", "bosun", "bowline", "bowsprit",
	"breaker", "breakwater", "bridge", "buoy", "caravel", "cargo", "clipper", "coral", "cormorant", "crane",
	"current", "cutter", "dinghy", "dock", "dolphin", "dorado", "ferry", "fender", "frigate", "galleon",
	"gangway", "gull", "halyard", "hammock", "harbor", "harpoon", "helm", "heron", "hull", "jetty",
	"kayak", "keel", "kelp", "ketch", "lagoon", "lantern", "lighthouse", "lugger", "manatee", "mangrove",
	"mast", "mooring", "narwhal", "oar", "orca", "osprey", "otter", "paddle", "pelican", "petrel",
	"pier", "pilot", "plover", "porpoise", "puffin", "quay", "rigging", "rudder", "sailor", "schooner",
	"seal", "sextant", "shoal", "skiff", "sloop", "spinnaker", "starboard", "tender", "tern", "tide",
	"tiller", "trawler", "tugboat", "turtle", "walrus", "wave", "wharf", "windlass", "yawl", "zephyr",
}
