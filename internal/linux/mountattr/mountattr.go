// Package mountattr knows whether the kernel has mount_setattr(2), which came with
// Linux 5.12: without it flags are set by remounting, one attached mount at a time,
// and a tree cannot be made read-only as a whole.
package mountattr

import (
	"sync"

	"golang.org/x/sys/unix"
)

// Supported asks the kernel once, by a call that fails for another reason where it
// exists.
var Supported = sync.OnceValue(func() bool {
	return unix.MountSetattr(-1, "", unix.AT_EMPTY_PATH, &unix.MountAttr{}) != unix.ENOSYS
})
