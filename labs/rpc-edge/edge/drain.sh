#!/bin/sh
# drain.sh EDGE COMMAND..: drains a node whose edge has been told by its signal: COMMAND.
set -e
edge=$1
shift
if [ "$edge" = envoy ]; then
  # No signal drains it; it is asked, and ended when its time is over.
  post() { python3 -c 'import sys, urllib.request as u; u.urlopen(sys.argv[1], b"", 2)' "http://127.0.0.1:9901/$1"; }
  post "drain_listeners?graceful&skip_exit"
  (sleep 5; post quitquitquit) > /dev/null 2>&1 &
fi
exec "$@"
