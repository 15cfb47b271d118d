#!/bin/sh
# start.sh RUN LAB
set -e
run=$1 lab=$2
mkdir -p "$run/gdnsd/run" "$run/gdnsd/state"
sed "s|@run@|$run|" "$lab/gdnsd/config" > "$run/gdnsd/config"
cp -r "$lab/gdnsd/zones" "$run/gdnsd/"
exec gdnsd -c "$run/gdnsd" start
