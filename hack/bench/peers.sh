#!/bin/sh
# Installs Debian's Docker, Docker Compose, Podman and crun to compare with. Nothing
# is started: the benchmark runs daemons of its own.
set -eu
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
apt-get install -y -qq --no-install-recommends docker.io docker-compose podman crun containernetworking-plugins fuse-overlayfs iptables
