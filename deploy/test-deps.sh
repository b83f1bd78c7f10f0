#!/usr/bin/env bash
# Installs what the tests need and the machine lacks: the real Redis to compare
# with, strace, tools for networks and disks, client libraries. What is there is left alone.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin # where Debian has ip, nft and mkfs for root only
cd "$(dirname "$0")/.."

need=()
lacks() { ! command -v "$1" >/dev/null; }
lacks redis-server && need+=(redis-server)
lacks redis-cli && need+=(redis-tools)
lacks redis-sentinel && need+=(redis-sentinel)
lacks strace && need+=(strace)
lacks gcc && need+=(gcc libc6-dev) # for the race detector
lacks ip && need+=(iproute2) # for tests with hosts of their own
lacks nft && need+=(nftables)
lacks mkfs.ext4 && need+=(e2fsprogs)
lacks node && need+=(nodejs)
lacks npm && need+=(npm)
/usr/bin/python3 -c 'import redis' 2>/dev/null || need+=(python3-redis)
lacks php && need+=(php-cli)
php -r 'exit(extension_loaded("redis") ? 0 : 1);' 2>/dev/null || need+=(php-redis)
[ -e /usr/share/php/Predis/autoload.php ] || need+=(php-predis)
lacks ruby && need+=(ruby)
ruby -e 'require "redis"' 2>/dev/null || need+=(ruby-redis)
perl -MRedis -e 1 2>/dev/null || need+=(libredis-perl)

if [ ${#need[@]} -gt 0 ]; then
	if lacks apt-get; then
		echo "The tests need: ${need[*]} (Debian's names). Install them and try again." >&2
		exit 1
	fi
	sudo=()
	[ "$(id -u)" -eq 0 ] || sudo=(sudo)
	echo "installing ${need[*]}"
	export DEBIAN_FRONTEND=noninteractive
	"${sudo[@]}" apt-get -q update </dev/null
	"${sudo[@]}" apt-get -q install -y --no-install-recommends "${need[@]}" </dev/null
fi

for lock in integration/clients/*/package-lock.json; do
	dir=$(dirname "$lock")
	[ "$dir/node_modules/.package-lock.json" -nt "$lock" ] && continue
	echo "installing the Node modules of $dir"
	(cd "$dir" && npm ci --no-audit --no-fund </dev/null)
done
