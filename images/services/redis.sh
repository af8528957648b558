#!/bin/sh
# Starts Redis as the official image does: without protected mode, which would refuse
# every client of another container.
set -eu

case "${1:-redis-server}" in
  redis-server) [ $# = 0 ] || shift ;;
  -* | *.conf) ;;
  *) exec "$@" ;;
esac
case "${1:-}" in
  *.conf) config=$1; shift; exec redis-server "$config" --protected-mode no "$@" ;;
esac
exec redis-server --protected-mode no "$@"
