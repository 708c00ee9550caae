#!/bin/sh
# Installs bin/ below a prefix, with the group muelle and, where systemd runs, the unit.
set -eu
prefix=${1:?usage: install.sh PREFIX}
top=$(cd "$(dirname "$0")/.." && pwd)
[ "$top/bin/muelle-oci" -ef "$top/bin/muelle-shim" ] || { echo 'install: bin/ is not of make build: run it first' >&2; exit 1; }
install -d -m 755 "$prefix/bin"
for b in muelle muelle-build muelle-compose muelled muelle-shim muelle-tls muelle-registry; do
	install -m 755 "$top/bin/$b" "$prefix/bin/$b.new"
	mv "$prefix/bin/$b.new" "$prefix/bin/$b" # running ones keep theirs
done
ln -sfn muelle-shim "$prefix/bin/muelle-oci.new"
mv "$prefix/bin/muelle-oci.new" "$prefix/bin/muelle-oci"
echo "installed in $prefix/bin"
[ -z "${DESTDIR:-}" ] || exit 0
getent group muelle >/dev/null || groupadd --system muelle
echo 'group muelle: its members control the daemon, which equals being root'
if [ -d /run/systemd/system ]; then
	sed "s|@PREFIX@|$prefix|" "$top/hack/systemd/muelle.service" >/etc/systemd/system/muelle.service
	systemctl daemon-reload
	echo 'start it now and at every boot: systemctl enable --now muelle'
fi
