#!/usr/bin/env bash
# Prints a duration such as 90, 90s, 10m or 1h in seconds.
set -euo pipefail
case "${1:-}" in
	*[0-9]h) echo $((${1%h} * 3600)) ;;
	*[0-9]m) echo $((${1%m} * 60)) ;;
	*[0-9]s) echo "${1%s}" ;;
	*[0-9]) echo "$1" ;;
	*) echo "not a duration: ${1:-}" >&2; exit 2 ;;
esac
