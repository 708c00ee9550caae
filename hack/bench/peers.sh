#!/bin/sh
# Installs Debian's Docker, Docker Compose, Podman and crun to compare with, and builds
# nerdctl, which Debian does not have, of its module into bin/peers. Nothing is started:
# the benchmark runs daemons of its own.
set -eu
cd "$(dirname "$0")/../.."
export DEBIAN_FRONTEND=noninteractive
# A policy of 101 keeps the packages from starting services.
made=
if [ ! -e /usr/sbin/policy-rc.d ]; then
	printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
	chmod +x /usr/sbin/policy-rc.d
	made=1
fi
trap '[ -z "$made" ] || rm -f /usr/sbin/policy-rc.d' EXIT
apt-get update -qq
apt-get install -y -qq --no-install-recommends docker.io docker-compose podman crun containernetworking-plugins fuse-overlayfs iptables iperf3

# The release that goes with Debian's containerd 1.6, and the sum of its module. It is
# built where it was unpacked, with the versions that it names itself; `go install` would
# ask the proxy for a list of all its versions first, which not every proxy gives.
version=v1.7.7 sum=h1:NmtSMmpF4qbS4aVj1/wyj2HTD3synzGFLXc4RC74Hwg=
module=github.com/containerd/nerdctl
build() {
	got=$(cd / && GOFLAGS=-mod=mod go mod download -json $module@$version) || return
	case $got in
	*"$sum"*) ;;
	*)
		echo "peers.sh: $module $version is not what it was: its sum is not $sum" >&2
		return 1
		;;
	esac
	mkdir -p bin/peers
	out=$PWD/bin/peers/nerdctl
	go -C "$(go env GOMODCACHE)/$module@$version" build -trimpath -ldflags "-s -w -X $module/pkg/version.Version=$version" -o "$out" ./cmd/nerdctl
}
command -v nerdctl >/dev/null 2>&1 || [ "$(bin/peers/nerdctl --version 2>/dev/null)" = "nerdctl version ${version#v}" ] || build ||
	echo "peers.sh: nerdctl $version could not be built: the benchmark runs without it" >&2
