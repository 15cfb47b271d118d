#!/bin/sh
# drain.sh EDGE STEER: what else belongs to the drain of a node, once its edge has been told.
set -e
if [ "$1" = envoy ]; then
  # No signal drains it; it is asked, and ended when its time is over.
  post() { python3 -c 'import sys, urllib.request as u; u.urlopen(sys.argv[1], b"", 2)' "http://127.0.0.1:9901/$1"; }
  post "drain_listeners?graceful&skip_exit"
  (sleep 5; post quitquitquit) > /dev/null 2>&1 &
fi
exec "$2" drain nrt
