#!/usr/bin/env bash

# The story that the client programs of every language tell, so that the tests can
# compare their libraries, with redis-cli, as scripts use it: one call for each
# command. See ../go/story/story.go for orders and events.
set -u

IFS=, read -ra sentinels <<<"$SENTINELS"
address=()

# Passwords go through the environment: arguments can be seen by every user.
sentinel() { # address command...
	REDISCLI_AUTH=$SENTINEL_PASSWORD timeout 1 redis-cli --no-auth-warning -h "${1%:*}" -p "${1##*:}" SENTINEL "${@:2}" 2>/dev/null
}
node() { # host port command...
	REDISCLI_AUTH=$REDIS_PASSWORD timeout 1 redis-cli --no-auth-warning -h "$1" -p "$2" "${@:3}" 2>&1
}

# Asks one Sentinel after the other until one answers.
ask() { # command...
	local s
	for s in "${sentinels[@]}"; do
		mapfile -t answer < <(sentinel "$s" "$@")
		[ "${#answer[@]}" -ge 2 ] && return 0
	done
	return 1
}

find_master() {
	[ "${#address[@]}" -eq 2 ] && return 0
	ask GET-MASTER-ADDR-BY-NAME "$MASTER_NAME" || { echo "no Sentinel knows the master"; return 1; }
	address=("${answer[@]}")
}

# One command to the master; whatever is no number is an error, and the next command
# looks for the master again.
master() { # event failed command
	local reply
	find_master >/dev/null || { echo "$2 no Sentinel knows the master"; return; }
	reply=$(node "${address[@]}" "$3" "$COUNTER_KEY")
	if [[ $reply =~ ^[0-9]+$ ]]; then
		echo "$1 $reply"
	else
		echo "$2 ${reply//$'\n'/ }"
		address=()
	fi
}

# One read from the first replica: the second and third fields are its address.
replica() {
	local i reply=none
	ask REPLICAS "$MASTER_NAME" || { echo "replica fail no Sentinel knows replicas"; return; }
	for i in {1..20}; do reply=$(node "${answer[3]}" "${answer[5]}" GET "$COUNTER_KEY"); done
	echo "replica $reply"
}

# The beginning, which ends the program if it fails.
begin() { # event command
	local line
	line=$(master "$1" fail "$2")
	[[ $line != fail* ]] || { echo "$line" >&2; exit 1; }
	[ "$1" = first ] || echo "$line"
}

begin first INCR
begin ready GET
while true; do
	if read -r -t 0.1 order; then
		case $order in
		read) master read "read fail" GET ;;
		replica) replica ;;
		quit) break ;;
		esac
	else
		[ $? -gt 128 ] || break # the end of standard input, not of the pause
		master ack fail INCR
	fi
done
echo done
