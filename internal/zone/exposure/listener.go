package exposure

import (
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"muelle/internal/linux/socket"
)

// listener is a socket that takes what comes.
type listener struct {
	protocol string
	at       netip.AddrPort
	process  string
}

// listeners are the sockets of processes of one network namespace, each once.
func listeners(pids []int) ([]listener, error) {
	owners := map[uint64]string{} // inode → process
	for _, pid := range pids {
		dir := "/proc/" + strconv.Itoa(pid)
		entries, err := os.ReadDir(dir + "/fd")
		if err != nil {
			continue // it has just ended
		}
		comm, _ := os.ReadFile(dir + "/comm")
		for _, e := range entries {
			link, err := os.Readlink(dir + "/fd/" + e.Name())
			if err != nil {
				continue
			}
			var inode uint64
			if _, err := fmt.Sscanf(link, "socket:[%d]", &inode); err == nil {
				owners[inode] = strings.TrimSpace(string(comm))
			}
		}
	}
	if len(owners) == 0 {
		return nil, nil
	}
	sockets, err := socket.Listeners()
	if err != nil {
		return nil, err
	}
	var list []listener
	for _, s := range sockets {
		if process, ok := owners[s.Inode]; ok {
			list = append(list, listener{s.Proto, s.Addr, process})
		}
	}
	return list, nil
}
