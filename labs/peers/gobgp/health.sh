#!/bin/sh
# The script that people write: probe, then announce or withdraw when the result is another one.
was=unknown
while :; do
  if curl -sf -m 1 -o /dev/null http://203.0.113.2/; then is=up; else is=down; fi
  if [ "$is" != "$was" ]; then
    if [ "$is" = up ]; then
      gobgp global rib add 192.0.2.5/32 nexthop 203.0.113.5 && was=$is
    else
      gobgp global rib del 192.0.2.5/32 nexthop 203.0.113.5 && was=$is
    fi
    echo "$(date -u '+%Y-%m-%d %H:%M:%S.%N' | cut -c1-26) service is $is"
  fi
  sleep 2
done
