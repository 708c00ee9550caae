package api

// Kernel is what the kernel says of a running container: the answer of
// GET /muelle/v1/containers/NAME/kernel. Everything is read at the moment of the
// request; nothing is remembered by the engine.
type Kernel struct {
	ID, Name string
	// Pid is the container's first process, Shim its parent, in the host's numbering.
	Pid, Shim  int
	Namespaces []KernelNamespace
	Process    KernelProcess
	Cgroups    []KernelCgroup
	Mounts     []KernelMount
	// Network is nil for a container that shares the host's.
	Network *KernelNetwork `json:",omitempty"`
}

// KernelNamespace is one namespace of the first process.
type KernelNamespace struct {
	// Type is its name below /proc/PID/ns: mnt, net, pid, …
	Type  string
	Inode uint64
	// Host: it is the one that the engine runs in.
	Host bool
	// SharedWith are other containers in the same namespace, unless it is the host's.
	SharedWith []string `json:",omitempty"`
}

// KernelProcess is the security state of the first process.
type KernelProcess struct {
	Command []string
	// UIDs and GIDs: real, effective, saved, file system.
	UIDs, GIDs []int
	Groups     []int
	// UIDMap and GIDMap: lines of /proc/PID/uid_map, "inside outside count".
	UIDMap, GIDMap []string
	// The five sets by name, CAP_…; "all" where none is missing.
	Inheritable, Permitted, Effective, Bounding, Ambient []string
	NoNewPrivileges                                      bool
	// Seccomp is disabled, strict or filter; SeccompFilters how many are installed.
	Seccomp        string
	SeccompFilters int
	// Label is that of the security module (AppArmor, SELinux), or empty.
	Label       string `json:",omitempty"`
	OOMScoreAdj int
	// Limits are the resource limits that differ from "unlimited", by name.
	Limits []KernelLimit
}

// KernelLimit is one line of /proc/PID/limits.
type KernelLimit struct{ Name, Soft, Hard, Unit string }

// KernelCgroup is one hierarchy's control group.
type KernelCgroup struct {
	// Version is 1 or 2; Controllers those of a v1 hierarchy.
	Version     int
	Controllers []string `json:",omitempty"`
	// Path is the directory on the host.
	Path  string
	Files []KernelFile
}

// KernelFile is a file and what it holds.
type KernelFile struct{ Name, Value string }

// KernelMount is one line of /proc/PID/mountinfo.
type KernelMount struct {
	ID, Parent     int
	Target, Source string
	Type           string
	// Root is the part of the file system that is mounted.
	Root string
	// Options of the mount, FSOptions of the file system.
	Options, FSOptions string
	// Propagation: private, shared:N, master:N, …
	Propagation string
}

// KernelNetwork is the network namespace and what leads to it.
type KernelNetwork struct {
	Interfaces []KernelInterface
	Routes     []string
	// Inside are the nftables rules of the namespace itself.
	Inside []string
	// Table is the engine's nftables table on the host; Rules all of its rules, Elements
	// those elements of the sets and maps that name this container's interfaces and
	// addresses, or its networks'.
	Table string
	Rules []string
	// Frames are the rules of the table of the same name of the family bridge: what the
	// container's interface may send at all.
	Frames   []string
	Elements []string
}

// KernelInterface is one interface of the namespace.
type KernelInterface struct {
	Name      string
	Index     int
	MAC       string
	MTU       int
	State     string
	Addresses []string
	// Peer is the other end of the veth pair on the host, Bridge its master, Network
	// the network's name; empty for the loopback.
	Peer, Bridge, Network string `json:",omitempty"`
	PeerIndex             int    `json:",omitempty"`
}
