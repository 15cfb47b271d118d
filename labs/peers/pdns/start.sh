#!/bin/sh
# start.sh RUN LAB
set -e
run=$1 lab=$2
mkdir -p "$run/pdns"
sed "s|@lab@|$lab|" "$lab/pdns/named.conf" > "$run/pdns/named.conf"
: > "$run/pdns/pdns.conf"
exec pdns_server --config-dir="$run/pdns" --socket-dir="$run/pdns" --daemon=no --guardian=no --launch=bind \
  --bind-config="$run/pdns/named.conf" --local-address=203.0.113.132 --enable-lua-records=yes \
  --lua-health-checks-interval=2 --security-poll-suffix= --loglevel=6
