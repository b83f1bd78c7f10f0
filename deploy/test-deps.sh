#!/usr/bin/env bash
# Installs what the tests need and the machine lacks: the real Redis to compare
# with, strace, tools for networks and disks, client libraries. What is there is left alone.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin # where Debian has ip, nft and mkfs for root only
cd "$(dirname "$0")/.."
known=7.0 # the Redis whose replies the tests know

lacks() { ! command -v "$1" >/dev/null; }

# look sets need to the packages that the machine lacks, by Debian's names.
look() {
	need=()
	lacks redis-server && need+=(redis-server)
	lacks redis-cli && need+=(redis-tools)
	lacks redis-sentinel && need+=(redis-sentinel)
	lacks strace && need+=(strace)
	lacks gcc && need+=(gcc libc6-dev) # for the race detector
	lacks ip && need+=(iproute2)       # for tests with hosts of their own
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
	[ ${#need[@]} -gt 0 ]
}

# retry runs a command until it succeeds, five times at most: networks and mirrors fail,
# and a fresh machine may be updating itself.
retry() {
	local n
	for n in 1 2 3 4; do
		"$@" </dev/null && return
		echo "failed, once more in $((n * 5)) s: $*" >&2
		sleep $((n * 5))
	done
	"$@" </dev/null
}

# apt is apt-get that asks nothing, leaves changed settings alone and waits for others.
apt() {
	local sudo=()
	[ "$(id -u)" -eq 0 ] || sudo=(sudo)
	"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o Acquire::Retries=3 \
		-o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-confold "$@"
}

if look; then
	if lacks apt-get; then
		echo "The tests need: ${need[*]} (Debian's names). Install them and try again." >&2
		exit 1
	fi
	echo "installing ${need[*]}"
	retry apt update || echo "The lists of packages may be old." >&2
	retry apt install -y --no-install-recommends "${need[@]}" || true # what is missing is told below
	if look; then
		echo "The tests still need: ${need[*]} (Debian's names). They could not be installed." >&2
		exit 1
	fi
fi

version=$(redis-server --version)
if [[ $version != *" v=$known."* ]]; then
	echo "The tests know the replies of Redis $known; this is another one, and some will differ: $version" >&2
fi

for lock in integration/clients/*/package-lock.json; do
	dir=$(dirname "$lock")
	[ "$dir/node_modules/.package-lock.json" -nt "$lock" ] && continue
	echo "installing the Node modules of $dir"
	(cd "$dir" && retry npm ci --prefer-offline --fetch-retries=5 --no-audit --no-fund)
done
