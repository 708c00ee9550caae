#!/bin/sh
# Makes the stand-in images and pushes them to a local registry: what takes the
# place of Docker Hub's images on machines that cannot reach it. See README.md.
#
#   MUELLE_HOST=unix:///… hack/images/build.sh 127.0.0.1:5050
#
# An image whose inputs have not changed since it was pushed is left alone.
set -eu
umask 022

registry=${1:?usage: build.sh REGISTRY}
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
muelle=${MUELLE:-$top/bin/muelle}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM

# inputs FILE…: a digest of what an image is made of, this script included.
inputs() {
	cat "$here/build.sh" "$@" | sha256sum | cut -c1-16
}

# present REPOSITORY DIGEST: whether the registry has the image made of these inputs.
present() {
	curl -fsS -o /dev/null --head -H 'Accept: application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json' \
		"http://$registry/v2/$1/manifests/standin-$2" 2>/dev/null
}

# publish REPOSITORY DIGEST FOLDER REPLACES TAGS CHANGE…: imports the folder as an
# image, labels it, and pushes it under its tags.
publish() {
	repo=$1 digest=$2 root=$3 label=$4 tags=$5
	shift 5
	for c in "$@"; do
		set -- "$@" -c "$c"
		shift
	done
	image=$registry/$repo:standin-$digest
	tar -C "$root" --sort=name --owner=0 --group=0 --numeric-owner --mtime=@1700000000 -c . |
		"$muelle" import "$@" -c "LABEL io.muelle.standin=\"$label\"" -m "stand-in: $label" - "$image" >/dev/null
	for tag in $tags; do
		"$muelle" tag "$image" "$registry/$repo:$tag"
		"$muelle" push -q "$registry/$repo:$tag" >/dev/null
		"$muelle" rmi "$registry/$repo:$tag" >/dev/null
	done
	# Last, as the mark that all the others are there.
	"$muelle" push -q "$image" >/dev/null
	"$muelle" rmi "$image" >/dev/null
	echo "stand-in $repo ($tags): $label"
}

# base FOLDER: a small system of Debian's static busybox.
base() {
	mkdir -p "$1/bin" "$1/dev" "$1/etc" "$1/home" "$1/proc" "$1/root" "$1/run" "$1/sys" "$1/usr/bin" "$1/usr/sbin" "$1/sbin" "$1/var"
	install -d -m 1777 "$1/tmp"
	cp "$busybox" "$1/bin/busybox"
	for applet in $("$busybox" --list); do
		[ "$applet" = busybox ] || ln -s busybox "$1/bin/$applet"
	done
	printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\n' >"$1/etc/passwd"
	printf 'root:x:0:\nnogroup:x:65534:\n' >"$1/etc/group"
	printf 'hosts: files dns\n' >"$1/etc/nsswitch.conf"
}

# libraries FOLDER PROGRAM: copies what the loader needs for a program.
libraries() {
	ldd "$2" | grep -o '/[^ ]*' | while read -r lib; do
		mkdir -p "$1$(dirname "$lib")"
		cp -L "$lib" "$1$lib"
	done
}

busybox=$(readlink -f "$(command -v busybox)")
ldd "$busybox" >/dev/null 2>&1 && {
	echo "build.sh: $busybox is not static: install Debian's busybox-static" >&2
	exit 1
}
path='ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

digest=$(inputs "$busybox")
for repo in library/busybox library/alpine; do
	present $repo "$digest" && continue
	[ -d "$work/busybox" ] || base "$work/busybox"
	case $repo in
	*busybox) publish $repo "$digest" "$work/busybox" "busybox, by Debian's busybox-static" 'latest 1.36' "$path" 'CMD ["sh"]' ;;
	*) publish $repo "$digest" "$work/busybox" "alpine, by Debian's busybox-static (no apk)" 'latest 3.20' "$path" 'CMD ["/bin/sh"]' ;;
	esac
done

curl=/usr/bin/curl
digest=$(inputs "$busybox" "$curl" /etc/ssl/certs/ca-certificates.crt)
present curlimages/curl "$digest" || {
	root=$work/curl
	base "$root"
	cp "$curl" "$root/usr/bin/curl"
	libraries "$root" "$curl"
	install -D -m 644 /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
	echo 'curl_user:x:100:101:curl:/home/curl_user:/bin/sh' >>"$root/etc/passwd"
	echo 'curl_group:x:101:' >>"$root/etc/group"
	publish curlimages/curl "$digest" "$root" "curlimages/curl:8.6.0, by Debian's curl $(curl --version | cut -d' ' -f2 | head -n1)" '8.6.0 latest' \
		"$path" 'USER curl_user' 'WORKDIR /home/curl_user' 'CMD ["curl"]'
}

digest=$(inputs "$busybox" "$here"/mongo/*.go "$here/mongo/go.sum")
present library/mongo "$digest" || {
	root=$work/mongo
	base "$root"
	mkdir -p "$root/data/db" "$root/data/configdb"
	(cd "$here/mongo" && CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o "$root/usr/bin/mongod" .)
	publish library/mongo "$digest" "$root" "mongo, by a small server of Muelle's own that speaks MongoDB's protocol" 'latest' \
		"$path" 'EXPOSE 27017' 'VOLUME /data/db' 'VOLUME /data/configdb' 'CMD ["mongod"]'
}

goroot=$(go env GOROOT)
digest=$(inputs "$busybox" "$goroot/VERSION" /etc/ssl/certs/ca-certificates.crt "$top/examples/zones/app/go.sum")
present library/golang "$digest" || {
	root=$work/golang
	base "$root"
	install -D -m 644 /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
	mkdir -p "$root/usr/local/go" "$root/go/bin" "$root/go/src" "$root/root/.cache"
	tar -C "$goroot" -c --exclude='*_test.go' --exclude=testdata --exclude=./test --exclude=./doc --exclude=./api --exclude=./misc . |
		tar -C "$root/usr/local/go" -x
	# The modules that the example needs, from this machine's cache where it has them.
	proxy="file://$(go env GOMODCACHE)/cache/download,$(go env GOPROXY)"
	(cd "$top/examples/zones/app" && GOFLAGS=-modcacherw GOPATH=$root/go GOMODCACHE=$root/go/pkg/mod GOPROXY=$proxy go mod download)
	# The cache that a first build would have to fill; -trimpath makes it independent of folders.
	(cd "$top/examples/zones/app" && GOCACHE=$root/root/.cache/go-build CGO_ENABLED=0 go build -trimpath -o /dev/null .)
	publish library/golang "$digest" "$root" "golang:1.26-alpine, by busybox and this machine's $(go env GOVERSION)" '1.26-alpine 1.26 alpine latest' \
		'ENV PATH=/go/bin:/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
		'ENV GOPATH=/go' 'ENV GOTOOLCHAIN=local' 'WORKDIR /go' 'CMD ["sh"]'
}
