#!/bin/sh
# make demo: builds Muelle, starts a daemon of its own, brings examples/zones up and
# proves its zones. make demo-down ends all of it.
#
#   STANDINS=auto|yes|no   take base images from stand-ins made on this machine (yes),
#                          from Docker Hub (no), or ask Docker Hub once (auto)
set -eu

top=$(cd "$(dirname "$0")/.." && pwd)
data=/var/lib/muelle-demo
exec=/run/muelle-demo
registry=127.0.0.1:5050
registry_root=/var/lib/muelle-demo-registry
MUELLE_HOST=unix://$exec/muelle.sock
export MUELLE_HOST
PATH=$top/bin:$PATH
export PATH

die() {
	echo "muelle demo: $*" >&2
	exit 1
}

say() {
	printf '\n\033[1m%s\033[0m\n' "$*"
}

# holder PORT: which process listens on a TCP port, in words.
holder() {
	ss -Hltnp "sport = :$1" 2>/dev/null | grep -o 'users:.*' | head -n1 | sed 's/users:(("\([^"]*\)",pid=\([0-9]*\).*/\1 (pid \2)/'
}

# outlived HOLDER: whether that is a container of the demo whose daemon was killed.
outlived() {
	case $1 in
	shim:*)
		id=${1#shim:}
		set -- "$exec/containers/${id%% *}"*
		[ -d "$1" ]
		;;
	*) false ;;
	esac
}

running() { # PIDFILE NAME
	[ -s "$1" ] && [ -e "/proc/$(cat "$1")" ] && [ "$(cat "/proc/$(cat "$1")/comm" 2>/dev/null)" = "$2" ]
}

# await SECONDS WHAT COMMAND…: repeats the command until it succeeds.
await() {
	seconds=$1 what=$2
	shift 2
	deadline=$(($(date +%s) + seconds))
	until "$@" >/dev/null 2>&1; do
		[ "$(date +%s)" -lt "$deadline" ] || die "$what did not answer within $seconds seconds"
		sleep 0.1
	done
}

choose_standins() {
	case ${STANDINS:-auto} in
	yes) standins=yes why='STANDINS=yes' ;;
	no) standins=no why='STANDINS=no' ;;
	auto)
		# One question, three seconds: does Docker Hub give us a manifest?
		if token=$(curl -fsS --max-time 2 'https://auth.docker.io/token?service=registry.docker.io&scope=repository:library/busybox:pull' 2>/dev/null | sed -n 's/.*"token":"\([^"]*\)".*/\1/p') &&
			[ -n "$token" ] && curl -fsS --max-time 1 -o /dev/null --head -H "Authorization: Bearer $token" \
			-H 'Accept: application/vnd.oci.image.index.v1+json' https://registry-1.docker.io/v2/library/busybox/manifests/latest 2>/dev/null; then
			standins=no why='docker.io answers'
		else
			standins=yes why='docker.io does not answer'
		fi
		;;
	esac
	echo "base images: $([ $standins = yes ] && echo "stand-ins made on this machine, from http://$registry" || echo 'Docker Hub') ($why)"
}

start_registry() {
	[ $standins = yes ] || return 0
	running $registry_root/pid muelle-registry && return 0
	taken=$(holder 5050)
	[ -z "$taken" ] || die "port 5050, where the stand-ins' registry belongs, is taken by $taken"
	mkdir -p $registry_root
	setsid muelle-registry --addr $registry --root $registry_root/data >$registry_root/log 2>&1 </dev/null &
	echo $! >$registry_root/pid
	await 10 "the registry on $registry (see $registry_root/log)" curl -fsS "http://$registry/v2/"
}

start_daemon() {
	running $exec/muelled.pid muelled && muelle version >/dev/null 2>&1 && return 0
	mkdir -p $data $exec
	mirror=
	[ $standins = yes ] && mirror="--registry-mirror http://$registry"
	# Unquoted on purpose: an option and its value, or nothing.
	setsid muelled --data-root $data --exec-root $exec --pidfile $exec/muelled.pid -H "$MUELLE_HOST" $mirror >$data/muelled.log 2>&1 </dev/null &
	await 15 "muelled (see $data/muelled.log)" muelle version
}

# expect WHAT SHOULD COMMAND…: runs a command that should succeed (yes) or fail (no).
failures=0
expect() {
	what=$1 should=$2
	shift 2
	if answer=$("$@" 2>&1); then did=yes; else did=no; fi
	if [ $did = "$should" ]; then
		printf '  ok    %s\n' "$what"
	else
		printf '  FAIL  %s\n        %s\n' "$what" "$(echo "$answer" | tail -n1)"
		failures=$((failures + 1))
	fi
}

inside() { # SERVICE COMMAND…
	service=$1
	shift
	# Unquoted on purpose: the service, or flags and the service.
	muelle compose -f docker/compose.yaml exec -T $service "$@" </dev/null
}

prove() {
	say 'The zones, tried from inside'
	mongo=$(muelle inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' zones-mongo-1)
	expect 'cliente reaches app:5000' yes inside cliente curl -fsS --max-time 5 http://app:5000/healthcheck/mongo
	expect 'cliente cannot resolve mongo' no inside cliente nslookup mongo
	expect "cliente cannot reach mongo by its address ($mongo)" no inside cliente curl -sS --max-time 2 "telnet://$mongo:27017" </dev/null
	expect 'app resolves and reaches mongo:27017' yes inside app nc -w 2 mongo 27017
	expect 'app reaches cliente' yes inside '-u0 app' ping -c 1 -W 2 cliente
	expect 'this host reaches app on port 5000' yes curl -fsS --max-time 5 http://127.0.0.1:5000/healthcheck/mongo
	expect 'this host has no port 27017' no curl -sS --max-time 2 telnet://127.0.0.1:27017 </dev/null
	expect "this host cannot reach mongo by its address ($mongo)" no curl -sS --max-time 2 "telnet://$mongo:27017" </dev/null
	say 'muelle zones --verify: every way, tried'
	matrix zones --verify zones
	say 'muelle explain cliente app:5000'
	matrix explain zones/cliente zones/app:5000
}

# matrix COMMAND…: shows what muelle finds, and counts it where it ends with an error.
matrix() {
	muelle "$@" </dev/null || {
		printf '  FAIL  muelle %s ended with %s\n' "$*" $?
		failures=$((failures + 1))
	}
}

up() {
	[ "$(id -u)" = 0 ] || die 'this must be root, because containers need it: run "sudo -E make demo"'
	case ${STANDINS:-auto} in
	auto | yes | no) ;;
	*) die "STANDINS=$STANDINS: it must be auto, yes or no" ;;
	esac
	"$top/hack/toolchain.sh"
	if [ ! -e $exec/muelled.pid ] || ! running $exec/muelled.pid muelled; then
		taken=$(holder 5000)
		[ -z "$taken" ] || outlived "$taken" || die "port 5000, which the example publishes, is taken by $taken: stop that first"
	fi
	say 'Building Muelle'
	make -s -C "$top" deps build
	choose_standins
	start_registry
	start_daemon
	[ $standins = yes ] && "$top/hack/images/build.sh" $registry
	say 'Starting examples/zones'
	cd "$top/examples/zones"
	./run-all.sh
	say 'The API answers'
	curl -sS --max-time 5 http://127.0.0.1:5000/healthcheck/mongo
	say 'muelle compose ps'
	muelle compose -f docker/compose.yaml ps
	prove
	say 'Go on with'
	echo "export MUELLE_HOST=$MUELLE_HOST PATH=$top/bin:\$PATH"
	echo 'make demo-down ends it.'
	[ $failures = 0 ] || die "$failures of the proofs failed"
}

stop_process() { # PIDFILE NAME
	if running "$1" "$2"; then
		pid=$(cat "$1")
		kill "$pid"
		deadline=$(($(date +%s) + 15))
		while [ -e "/proc/$pid" ] && [ "$(cat "/proc/$pid/stat" 2>/dev/null | cut -d' ' -f3)" != Z ]; do
			[ "$(date +%s)" -lt $deadline ] || die "$2 (pid $pid) does not end"
			sleep 0.1
		done
	fi
	rm -f "$1"
}

# down ends the stack, the daemon and the registry, and removes what they kept; with
# KEEP=1 images, build cache and the database stay for the next demo.
down() {
	[ "$(id -u)" = 0 ] || die 'this must be root: run "sudo -E make demo-down"'
	standins=yes
	if [ -d $data ] && [ -x "$top/bin/muelled" ]; then
		# A daemon that died left containers: only a daemon can end them properly.
		start_daemon
		(cd "$top/examples/zones" && ./stop-all.sh) || true
		curl -sS --max-time 60 -X POST --unix-socket $exec/muelle.sock 'http://localhost/muelle/v1/shutdown?containers=stop' >/dev/null || true
		await 30 'the end of muelled' sh -c "! [ -e /proc/$(cat $exec/muelled.pid 2>/dev/null || echo none) ]"
	fi
	stop_process $registry_root/pid muelle-registry
	rm -rf $exec
	if [ "${KEEP:-}" != 1 ]; then
		rm -rf $data $registry_root
	fi
	echo 'the demo is gone'
}

case ${1:-} in
up) up ;;
down) down ;;
*) die 'usage: demo.sh up|down' ;;
esac
