#!/usr/bin/env bash
# Three nodes on this machine: up, down, status. Their files are in run/: data,
# logs, process ids, and the secret they share. OFFSET moves all ports.
set -euo pipefail
cd "$(dirname "$0")/.."

run=$PWD/run
bin=$PWD/bin/holdfast
wait_seconds=30

# port N BASE is the port of node N, where node 1 has BASE.
port() { echo $(($2 + $1 - 1 + $(offset))); }
offset() { if [ -f "$run/offset" ]; then cat "$run/offset"; else echo "${OFFSET:-0}"; fi; }

# pid N is the process of node N, if it runs.
pid() {
	local id
	id=$(cat "$run/n$1.pid" 2>/dev/null) || return 1
	[ "$(readlink "/proc/$id/exe" 2>/dev/null | sed 's/ (deleted)$//')" = "$bin" ] || return 1
	echo "$id"
}

# taken PORT tells whether something listens there already.
taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# page PORT PATH succeeds if the page answers 200.
page() {
	local status
	exec 3<>"/dev/tcp/127.0.0.1/$1" || return 1
	printf 'GET %s HTTP/1.0\r\n\r\n' "$2" >&3
	read -r -t 2 _ status _ <&3 || status=
	exec 3>&-
	[ "$status" = 200 ]
} 2>/dev/null

start() {
	local n=$1 peers=
	pid "$n" >/dev/null && return
	for base in 6379 26379 16379 9121; do
		if taken "$(port "$n" "$base")"; then
			echo "Port $(port "$n" "$base") is in use. Stop what listens there, or move all ports: make up OFFSET=1000" >&2
			exit 1
		fi
	done
	for m in 1 2 3; do peers+="n$m=127.0.0.1:$(port "$m" 16379),"; done
	HOLDFAST_CLUSTER_SECRET=$(cat "$run/secret") setsid nohup "$bin" \
		--node-id "n$n" --dir "$run/n$n" --bind 127.0.0.1 \
		--port "$(port "$n" 6379)" --sentinel-port "$(port "$n" 26379)" \
		--raft-port "$(port "$n" 16379)" --metrics-port "$(port "$n" 9121)" \
		--peers "${peers%,}" </dev/null >>"$run/n$n.log" 2>&1 &
	local id=$!
	echo "$id" >"$run/n$n.pid"
	until pid "$n" >/dev/null; do # it is still the shell, setsid or nohup
		kill -0 "$id" 2>/dev/null || break
		sleep 0.01
	done
}

ready() {
	local n=$1 end=$((SECONDS + wait_seconds))
	until page "$(port "$n" 9121)" /readyz; do
		if ! pid "$n" >/dev/null; then
			echo "Node n$n ended. The end of run/n$n.log:" >&2
			tail -5 "$run/n$n.log" >&2
			exit 1
		fi
		if [ $SECONDS -ge $end ]; then
			echo "Node n$n is not ready after $wait_seconds s; see run/n$n.log" >&2
			exit 1
		fi
		sleep 0.1
	done
}

up() {
	mkdir -p "$run"
	if ! pid 1 >/dev/null && ! pid 2 >/dev/null && ! pid 3 >/dev/null; then
		echo "${OFFSET:-0}" >"$run/offset"
	fi
	if [ ! -s "$run/secret" ]; then
		(umask 077 && head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$run/secret")
	fi
	for n in 1 2 3; do start "$n"; done
	for n in 1 2 3; do ready "$n"; done
	for _ in {1..50}; do if [ -n "$(master)" ]; then break; fi; sleep 0.1; done # a busy machine may lose it again
	status
	cat <<-TEXT

	Three nodes are running. Data, logs and process ids are in run/; "make down" stops them.

	  redis-cli -p $(port 1 26379) SENTINEL GET-MASTER-ADDR-BY-NAME mymaster
	  redis-cli -p $(master_port) SET greeting hello

	  // ioredis
	  new Redis({ name: 'mymaster', sentinels: [
	    { host: '127.0.0.1', port: $(port 1 26379) }, { host: '127.0.0.1', port: $(port 2 26379) }, { host: '127.0.0.1', port: $(port 3 26379) } ] })

	Kill the master and watch another take over:  kill -9 \$(cat run/$(master_id).pid); make status
	TEXT
}

# master is the number of the node that says it is the master, or nothing.
master() {
	local n
	for n in 1 2 3; do
		if pid "$n" >/dev/null && page "$(port "$n" 9121)" /leader; then
			echo "$n"
			return
		fi
	done
}
master_id() { local n; n=$(master); echo "n${n:-1}"; }
master_port() { local n; n=$(master); port "${n:-1}" 6379; }

status() {
	local n m
	m=$(master)
	for n in 1 2 3; do
		if ! pid "$n" >/dev/null; then
			echo "n$n  not running"
		elif ! page "$(port "$n" 9121)" /readyz; then
			echo "n$n  not ready    port $(port "$n" 6379)  process $(pid "$n")"
		elif [ "$n" = "$m" ]; then
			echo "n$n  master       port $(port "$n" 6379)  Sentinel $(port "$n" 26379)  metrics $(port "$n" 9121)  process $(pid "$n")"
		else
			echo "n$n  replica      port $(port "$n" 6379)  Sentinel $(port "$n" 26379)  metrics $(port "$n" 9121)  process $(pid "$n")"
		fi
	done
}

down() {
	local n id end=$((SECONDS + 15))
	for n in 1 2 3; do
		if id=$(pid "$n"); then kill "$id"; fi
	done
	for n in 1 2 3; do
		while id=$(pid "$n"); do
			if [ $SECONDS -ge $end ]; then
				echo "Node n$n does not end; killing it."
				kill -9 "$id"
			fi
			sleep 0.1
		done
		rm -f "$run/n$n.pid"
	done
	echo "The nodes are stopped. Their data is in run/; remove it to begin anew."
}

case "${1:-}" in
	up) up ;;
	down) down ;;
	status) status ;;
	*) echo "usage: $0 up|down|status" >&2; exit 2 ;;
esac
