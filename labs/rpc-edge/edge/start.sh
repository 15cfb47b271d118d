#!/bin/sh
# start.sh EDGE STEER LAB RUN: the edge of this node, or another program in its place. Each has one process, which is hit by what
# is done to an edge.
set -e
edge=$1 steer=$2 lab=$3/edge run=$4
case $edge in
  steer) exec "$steer" edge --config "$lab/edge.toml" --log-format json ;;
  haproxy) exec haproxy -db -f "$lab/haproxy.cfg" ;;
  nginx)
    home=$(mktemp -d "$run/nginx.XXXXXX")
    exec nginx -p "$home" -e stderr -c "$lab/nginx.conf"
    ;;
  envoy) exec envoy --concurrency 2 --log-level error --disable-hot-restart --drain-time-s 5 -c "$lab/envoy.yaml" ;;
  *) echo "no edge is called $edge; write steer, haproxy, nginx or envoy" >&2; exit 2 ;;
esac
