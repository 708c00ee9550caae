#!/bin/sh
# Installs what the tests and the demo need of Debian's packages, where it is missing.
set -eu
PATH=$PATH:/usr/sbin:/sbin
missing=
need() { # PROGRAM PACKAGE
	command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}
need busybox busybox-static
need curl curl
need xz xz-utils
need ip iproute2
need nft nftables
# Rules of other firewalls are loaded in their own form.
need iptables-nft-restore iptables
need git git
need gcc gcc
[ -e /usr/include/stdlib.h ] || missing="$missing libc6-dev"
need script bsdutils
need ldd libc-bin
need ps procps
# A second OCI runtime behind the contract.
need runc runc
need qemu-system-x86_64 qemu-system-x86
need mke2fs e2fsprogs
need mmdebstrap mmdebstrap
/usr/bin/python3 -c 'import pymongo, mongoengine' 2>/dev/null || missing="$missing python3-pymongo python3-mongoengine"
# The lifecycle from a Python program.
/usr/bin/python3 -c 'import docker' 2>/dev/null || missing="$missing python3-docker"
[ -e /etc/ssl/certs/ca-certificates.crt ] || missing="$missing ca-certificates"
# The unmodified Docker client judges from outside; Debian ships it with the engine, which is not started.
need docker docker.io
if command -v busybox >/dev/null 2>&1 && ldd "$(readlink -f "$(command -v busybox)")" >/dev/null 2>&1; then
	missing="$missing busybox-static"
fi
[ -z "$missing" ] && exit 0
if ! command -v apt-get >/dev/null 2>&1; then
	echo "muelle: install these packages first (there is no apt-get here):$missing" >&2
	exit 1
fi
echo "installing$missing"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
# Unquoted on purpose: one word per package.
if ! { apt-get update && apt-get install -y --no-install-recommends $missing; } >"$log" 2>&1; then
	tail -n 20 "$log" >&2
	echo "muelle: apt-get could not install:$missing" >&2
	exit 1
fi
rm -f "$log"
