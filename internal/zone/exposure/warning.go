package exposure

import (
	"fmt"
	"net"
	"strconv"

	"muelle/api"
)

// delicate are ports of programs that trust whoever reaches them, or guard whole data
// with one password.
var delicate = map[uint16]string{
	1433: "SQL Server", 1521: "Oracle", 2375: "Docker's API without TLS", 2379: "etcd", 3306: "MySQL", 5432: "PostgreSQL", 5984: "CouchDB",
	6379: "Redis", 7687: "Neo4j", 8086: "InfluxDB", 9042: "Cassandra", 9200: "Elasticsearch", 11211: "memcached", 27017: "MongoDB",
}

var circles = map[string]string{api.ReachLAN: "the LAN", api.ReachEveryone: "everyone"}

// warn says what is wrong with a container's port, if something is.
func warn(p *api.ExposedPort) string {
	what, ok := delicate[p.ContainerPort]
	if !ok || circles[p.Reach] == "" || p.Protocol != "tcp" {
		return ""
	}
	text := fmt.Sprintf("%s (%s) of %s is open to %s", what, fmt.Sprintf("port %d", p.Port), p.Container, open(p))
	if p.Network == "host" {
		return text + ": let it listen on 127.0.0.1, or take it off the host's network"
	}
	return fmt.Sprintf("%s: publish it on this host only (-p 127.0.0.1:%d:%d), or not at all: containers of its networks reach it anyway", text, p.Port, p.ContainerPort)
}

func open(p *api.ExposedPort) string {
	text := circles[p.Reach]
	if p.RouterDecides {
		text += ", and whoever the router lets in"
	}
	return text
}

// warnAPI says what is wrong with one of the engine's own ports.
func warnAPI(p *api.ExposedPort, noTLS bool) string {
	if !noTLS {
		return ""
	}
	who := "this host's users and containers on its network"
	if circles[p.Reach] != "" {
		who = open(p)
	}
	address := net.JoinHostPort(p.Address, strconv.Itoa(int(p.Port)))
	return fmt.Sprintf("the engine's API on tcp://%s asks for no certificate and is open to %s: whoever reaches it is root on this machine", address, who)
}
