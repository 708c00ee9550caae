# Checks that limits of swap and reservations bite on cgroup v1.
check 'v1' "$version $(stat -fc %T /sys/fs/cgroup/memory)" '1 cgroupfs'
dd if=/dev/zero of=/swap bs=1M count=256 2>/dev/null
chmod 600 /swap
mkswap -q /swap
swapon /swap
hog='dd if=/dev/zero of=/dev/null bs=40M count=1 2>/dev/null && echo fits'
check 'v1: no swap' "$(muelle run --rm -m 24m --memory-swap 24m box sh -c "$hog")" ''
check 'v1: as much swap as memory' "$(muelle run --rm -m 24m box sh -c "$hog")" fits
check 'v1: any swap' "$(muelle run --rm -m 24m --memory-swap -1 box sh -c "$hog")" fits
id=$(muelle run -d --name live -m 24m --memory-swap 24m box sleep 1000)
for step in 24m: 96m:fits 24m:; do
	muelle update --memory-swap "${step%:*}" live >/dev/null
	check "v1: updated to $step" "$(muelle exec live sh -c "$hog")" "${step#*:}"
done

# The soft limit of v1: when the machine's memory is short, who has more than reserved gives
# first. Each has 200 MiB of what was read.
usage() { echo $(($(cat "/sys/fs/cgroup/memory/system.slice/muelle-$1.scope/container/memory.usage_in_bytes") >> 20)); }
fill='dd if=/dev/zero of=/f bs=1M count=200 2>/dev/null; sync; sleep 1000'
some=$(muelle run -d --name some --memory-reservation 20m box sh -c "$fill")
free=$(muelle run -d --name free box sh -c "$fill")
await sh -c "muelle exec some pidof sleep && muelle exec free pidof sleep"
echo "before: with a reservation $(usage "$some") MiB, without $(usage "$free") MiB"
dd if=/dev/zero of=/dev/null bs="$(($(sed -n 's/^MemAvailable: *\([0-9]*\) kB/\1/p' /proc/meminfo) / 1024 - 150))M" count=1 2>/dev/null
echo "after: with a reservation $(usage "$some") MiB, without $(usage "$free") MiB"
check 'v1: who has more than reserved gives first' "$(($(usage "$some") + 50 < $(usage "$free")))" 1
muelle rm -f live some free >/dev/null
swapoff /swap
