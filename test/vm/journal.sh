# Checks of the log driver journald with systemd's own journal; $client is docker or muelle.
entries() { journalctl CONTAINER_NAME=logs -o cat --output-fields="$1" | sort -u; }
partial() { journalctl CONTAINER_NAME=logs CONTAINER_PARTIAL_LAST="$1" -o cat --output-fields="$2" | cut -c1-4; }
check 'journal: a container' "$($client run -d --name logs --log-driver journald -l tier=front -e COLOUR=red --log-opt labels=tier --log-opt env=COLOUR --log-opt tag=box/{{.Name}} box \
	sh -c 'echo out; echo err >&2; head -c 20000 /dev/zero | tr "\0" x; echo; while ! [ -e /go ]; do usleep 20000; done; echo last' >/tmp/logs.id; echo $?)" 0
read -r id </tmp/logs.id
await sh -c '[ "$(journalctl CONTAINER_NAME=logs -o cat | wc -l)" = 4 ]'
since=$(date +%s.%N)
$client logs -f --tail 2 logs >/tmp/logs.followed 2>&1 &
$client exec logs touch /go
wait $!
await sh -c '[ "$(journalctl CONTAINER_NAME=logs -o cat | wc -l)" = 5 ]'
check 'journal: standard error' "$(journalctl CONTAINER_NAME=logs PRIORITY=3 -o cat)" err
check 'journal: output' "$(journalctl CONTAINER_NAME=logs PRIORITY=6 -o cat | cut -c1-4)" "out
xxxx
xxxx
last"
check 'journal: fields' "$(entries CONTAINER_ID; entries CONTAINER_ID_FULL; entries CONTAINER_TAG; entries SYSLOG_IDENTIFIER; entries IMAGE_NAME; entries TIER; entries COLOUR; entries CONTAINER_LOG_ORDINAL | tr '\n' ' ')" "$(echo "$id" | cut -c1-12)
$id
box/logs
box/logs
box
front
red
1 2 3 4 5 "
check 'journal: the parts of a long line' "$(partial false CONTAINER_PARTIAL_ORDINAL; partial false CONTAINER_PARTIAL_MESSAGE; partial true CONTAINER_PARTIAL_ORDINAL; partial true CONTAINER_PARTIAL_MESSAGE)" "1
true
2"
check 'journal: they belong together' "$(entries CONTAINER_PARTIAL_ID | grep -cE '^[0-9a-f]{64}$')" 1
check 'journal: JSON' "$(journalctl CONTAINER_NAME=logs PRIORITY=3 -o json --output-fields=MESSAGE,COLOUR | grep -oE '"(MESSAGE|COLOUR)" ?: ?"[a-z]*"' | tr -d ' ' | sort | tr '\n' ' ')" '"COLOUR":"red" "MESSAGE":"err" '
check 'journal: logs' "$($client logs logs 2>/dev/null | cut -c1-4 | tr '\n' ' '; $client logs logs 2>&1 >/dev/null; $client logs logs 2>/dev/null | wc -c)" "out xxxx last err
20010"
check 'journal: logs -f --tail' "$(cut -c1-4 /tmp/logs.followed | sort)" "last
xxxx"
check 'journal: logs --tail' "$($client logs --tail 1 logs)" last
check 'journal: logs --since' "$($client logs --since "$since" logs 2>&1)" last
check 'journal: logs --until' "$($client logs --until "$since" logs 2>/dev/null | cut -c1-4 | tr '\n' ' ')" 'out xxxx '
check 'journal: logs --details' "$($client logs --details --tail 1 logs)" 'COLOUR=red,tag=box%2Flogs,tier=front last'
check 'journal: logs -t' "$($client logs -t --tail 1 logs | grep -cE '^20[0-9-]*T[0-9:.]*Z last$')" 1
$client rm logs >/dev/null
