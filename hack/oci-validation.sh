#!/bin/bash
# Runs the validation suite of opencontainers/runtime-tools against muelle-oci and, for
# comparison, against Debian's runc, and prints a table. Not part of CI: some of the
# suite's cases fail with every runtime, and it takes minutes.
#
#   hack/oci-validation.sh [CASE…]
set -u
# A container without a mount namespace of its own leaves runc's mounts, and what it did
# to the propagation of "/", in ours.
[ -n "${MUELLE_VALIDATION_NS:-}" ] || MUELLE_VALIDATION_NS=1 exec unshare --mount --propagation private "$0" "$@"
PATH=$PATH:/usr/sbin:/sbin:/usr/local/go/bin
top=$(cd "$(dirname "$0")/.." && pwd)
work=${TMPDIR:-/tmp}/muelle-oci-validation
suite=$work/suite
version=v0.9.0
export CGO_ENABLED=0 GOFLAGS=-mod=mod
command -v runc >/dev/null || { echo "oci-validation: install runc first (apt-get install runc)" >&2; exit 1; }
[ -x "$top/bin/muelle-oci" ] || { echo "oci-validation: run make build first" >&2; exit 1; }

if [ ! -x "$suite/runtimetest" ] || [ ! -e "$work/built" ]; then
	mkdir -p "$work/bin"
	dir=$(cd "$work" && go mod download -json "github.com/opencontainers/runtime-tools@$version" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
	[ -n "$dir" ] || { echo "oci-validation: cannot download runtime-tools $version" >&2; exit 1; }
	rm -rf "$suite" && cp -r "$dir" "$suite" && chmod -R u+w "$suite" && cd "$suite" || exit 1
	# The release has no go.mod; these are the versions that its code compiles with.
	go mod init github.com/opencontainers/runtime-tools &&
		go mod edit -require=github.com/opencontainers/runtime-spec@v1.0.2 -require=github.com/opencontainers/selinux@v1.2.2 &&
		go mod tidy && go build -o runtimetest ./cmd/runtimetest || exit 1
	for d in validation/*/; do
		n=$(basename "$d")
		[ "$n" = util ] || go build -o "$work/bin/$n" "./$d" || exit 1
	done
	touch "$work/built"
fi

cd "$suite" || exit 1
[ $# -gt 0 ] || set -- $(ls "$work/bin")
printf '%-34s %-26s %-26s\n' case muelle-oci "runc $(runc --version | sed -n 's/^runc version //p')"
worse=0
for t in "$@"; do
	line=
	for rt in "$top/bin/muelle-oci" runc; do
		out=$work/$t.$(basename "$rt")
		RUNTIME=$rt timeout 60 "$work/bin/$t" >"$out.tap" 2>"$out.err" </dev/null
		rc=$?
		ok=$(grep -c '^ok' "$out.tap") bad=$(grep -c '^not ok' "$out.tap")
		line="$line $rc $ok $bad"
	done
	set -f; v=($line); set +f
	mark=
	# A case that ends early has no failed assertion but an exit status.
	if [ "${v[0]}" -gt "${v[3]}" ] || { [ "${v[0]}" = "${v[3]}" ] && { [ "${v[2]}" -gt "${v[5]}" ] || [ "${v[1]}" -lt "${v[4]}" ]; }; }; then
		mark='<- worse than runc'
		worse=$((worse + 1))
	fi
	printf '%-34s %-26s %-26s %s\n' "$t" "exit ${v[0]}, ok ${v[1]}, not ok ${v[2]}" "exit ${v[3]}, ok ${v[4]}, not ok ${v[5]}" "$mark"
done
echo "$worse cases are worse than with runc; outputs are in $work"
[ "$worse" = 0 ]
