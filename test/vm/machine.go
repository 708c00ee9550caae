package vm

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// modules are what the engine and the machine need of a stock kernel.
var modules = []string{
	"virtio_pci", "virtio_blk", "crc32c_generic", "crc32c_intel", "ext4", "overlay", "veth", "bridge", "br_netfilter", "dummy",
	"nf_tables", "nft_nat", "nft_masq", "nft_redir", "nft_ct", "nft_fib_inet", "nft_reject_inet", "nft_chain_nat", "nft_compat", "nft_log", "nft_limit", "nft_numgen", "nft_hash", "nft_fib_netdev", "nft_meta_bridge", "nf_conntrack_netlink",
	"nft_counter?", // no module any more since Linux 5.18
	"bfq?",
	"nfsd", "nfsv4", "macvlan", "ipvlan", "8021q", "sctp",
}

// Kernel is an unpacked kernel package: hack/kernel.sh makes the folder.
type Kernel struct{ Dir string }

// image and modules find the two parts.
func (k Kernel) image() (string, error) { return single(filepath.Join(k.Dir, "boot", "vmlinuz-*")) }

func single(pattern string) (string, error) {
	found, err := filepath.Glob(pattern)
	if err == nil && len(found) != 1 {
		err = fmt.Errorf("%d files match %s, not one: run hack/kernel.sh", len(found), pattern)
	}
	if err != nil {
		return "", err
	}
	return found[0], nil
}

// WriteInitramfs makes the initial file system in a file.
func (k Kernel) WriteInitramfs(path, init string) error {
	dir, err := single(filepath.Join(k.Dir, "lib", "modules", "*"))
	if err != nil {
		return err
	}
	order, err := moduleOrder(dir, modules)
	if err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return initramfs(f, init, order)
}

// Machine is what qemu is told.
type Machine struct {
	Kernel    Kernel
	Initramfs string
	Disk      string // an ext4 image, changed by the machine
	Slow      string // an image for a second disk, whose sixteen megabytes a second can be fought for
	Words     string // appended to the kernel's command line
}

// Boot runs the machine until it powers off, writing its console to w.
func (m Machine) Boot(ctx context.Context, w io.Writer) error {
	image, err := m.Kernel.image()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "2048",
		"-M", "q35", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-nic", "none",
		"-serial", "stdio", "-kernel", image, "-initrd", m.Initramfs,
		"-drive", "if=none,id=disk,format=raw,cache=unsafe,file="+m.Disk, "-device", "virtio-blk-pci,drive=disk",
		"-drive", "if=none,id=slow,format=raw,cache=unsafe,throttling.bps-total=16777216,file="+m.Slow, "-device", "virtio-blk-pci,drive=slow",
		"-append", "console=ttyS0 quiet loglevel=3 panic=-1 mitigations=off "+m.Words)
	cmd.Stdout, cmd.Stderr = w, w
	// Whatever ends this process ends the machine; the kernel watches the thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("qemu: %w", err)
	}
	return nil
}

// WriteDisk makes an ext4 image of a folder.
func WriteDisk(ctx context.Context, path, dir string) error {
	if err := os.RemoveAll(path); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, "mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-d", dir, path, "4G").CombinedOutput()
	if err != nil {
		return fmt.Errorf("mke2fs: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}
