#!/bin/sh
# start.sh RUN: an empty PostgreSQL in RUN/db, for the network of the services. It refuses to be root.
set -e
home=$1/db
programs=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
rm -rf "$home"
install -d -o postgres -g postgres -m 700 "$home"
cd "$home"
setpriv --reuid postgres --regid postgres --init-groups "$programs/initdb" --auth=trust --username=postgres \
  --no-sync --encoding=UTF8 --pgdata data > initdb.log
echo "host all all 10.0.0.0/24 trust" >> data/pg_hba.conf
# Nothing breaks the machine here, so nothing is lost without fsync. The kernel forgets whose death it was to follow when
# the user changes; setpriv tells it again.
exec setpriv --reuid postgres --regid postgres --init-groups --pdeathsig KILL "$programs/postgres" -D data -k "$home" \
  -c listen_addresses=10.0.0.20 -c max_connections=80 -c fsync=off
