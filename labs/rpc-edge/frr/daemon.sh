#!/bin/sh
# daemon.sh DAEMON NODE RUN LAB: one daemon of FRR, with the configuration LAB/NODE/DAEMON.conf, or an empty one. They
# find each other by sockets in a folder of their own, which belongs to the user that they become.
set -e
daemon=$1 node=$2 run=$3 lab=$4
home=$run/$node.frr
config=$home/$daemon.conf
install -d -o frr -g frr "$home"
for from in "$lab/$node/$daemon.conf" /dev/null; do
  if [ -r "$from" ]; then
    install -o frr -g frr -m 640 "$from" "$config"
    break
  fi
done
if [ "$daemon" = zebra ]; then
  rm -f "$home/zserv.api"
else
  # A daemon that finds no zebra looks again after ten seconds only.
  until ss -Hxl | grep -q "$home/zserv.api"; do sleep 0.02; done
fi
set -- -f "$config" -i "$home/$daemon.pid" -z "$home/zserv.api" --vty_socket "$home" -P 0 --log stdout
if [ "$daemon" = bfdd ]; then
  set -- "$@" --bfdctl "$home/bfdd.sock"
fi
exec "/usr/lib/frr/$daemon" "$@"
