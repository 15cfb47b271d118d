#!/bin/sh
# start.sh bird|checker RUN LAB: both find their files below RUN/ahc.
set -e
what=$1 run=$2 lab=$3
mkdir -p "$run/ahc/none" # of further services
sed "s|@run@|$run|" "$lab/ahc/$what.conf" > "$run/ahc/$what.conf"
if [ "$what" = bird ]; then
  printf 'define ACAST_PS_ADVERTISE =\n    [\n        10.189.200.255/32\n    ];\n' > "$run/ahc/prefixes.conf"
  exec bird -f -c "$run/ahc/bird.conf" -s "$run/ahc/bird.ctl" -P "$run/ahc/bird.pid"
fi
exec anycast-healthchecker -f "$run/ahc/checker.conf" -d "$run/ahc/none"
