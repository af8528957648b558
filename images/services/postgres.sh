#!/bin/sh
# Starts PostgreSQL as the official image does, from the same variables. An empty data
# directory becomes a copy of the template that was made with the image, or of initdb.
set -eu

case "${1:-postgres}" in
  postgres) [ $# = 0 ] || shift ;;
  -*) ;;
  *) exec "$@" ;;
esac

PGDATA=${PGDATA:-/var/lib/postgresql/data/pgdata}
export PGDATA
if [ -s "$PGDATA/PG_VERSION" ]; then
  exec postgres -c listen_addresses='*' -c unix_socket_directories=/tmp "$@"
fi

refuse() { echo "postgres: $1" >&2; exit 1; }
newline='
'
[ -z "${POSTGRES_PASSWORD_FILE:-}" ] || POSTGRES_PASSWORD=$(cat "$POSTGRES_PASSWORD_FILE")
method=${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}
password=${POSTGRES_PASSWORD:-}
user=${POSTGRES_USER:-postgres}
database=${POSTGRES_DB:-$user}
[ -n "$password" ] || [ "$method" = trust ] || refuse "set POSTGRES_PASSWORD, POSTGRES_PASSWORD_FILE or POSTGRES_HOST_AUTH_METHOD=trust"
case "$user$database$password$method" in *"$newline"*) refuse "a variable has a line break" ;; esac

literal() { printf %s "$1" | sed "s/'/''/g"; }
name() { printf %s "$1" | sed 's/"/""/g'; }

mkdir -p "$PGDATA"
chmod 700 "$PGDATA"
if [ -s "${PGTEMPLATE:-}/PG_VERSION" ]; then
  cp -r "$PGTEMPLATE/." "$PGDATA/"
  chmod 700 "$PGDATA"
else
  initdb -U postgres -A trust -N -E UTF8 --locale=C.UTF-8 --wal-segsize=1 --no-instructions > /dev/null
fi
printf 'local all all trust\nhost all all all %s\n' "$method" > "$PGDATA/pg_hba.conf"

# In single-user mode with -j a command ends with a semicolon and an empty line.
{
  if [ "$user" != postgres ]; then
    printf 'CREATE ROLE "%s" SUPERUSER LOGIN;\n\n' "$(name "$user")"
  fi
  if [ -n "$password" ]; then
    printf "ALTER ROLE \"%s\" PASSWORD '%s';\n\n" "$(name "$user")" "$(literal "$password")"
  fi
  if [ "$database" != postgres ]; then
    printf 'CREATE DATABASE "%s" OWNER "%s";\n\n' "$(name "$database")" "$(name "$user")"
  fi
} | postgres --single -j -F -D "$PGDATA" postgres > /dev/null

first=
for script in /docker-entrypoint-initdb.d/*; do
  [ -e "$script" ] || continue
  if [ -z "$first" ]; then
    first=$script
    pg_ctl -D "$PGDATA" -s -w -t 300 -o "-c listen_addresses= -c unix_socket_directories=/tmp" start
  fi
  case "$script" in
    *.sql) psql -q -v ON_ERROR_STOP=1 -h /tmp -U "$user" -d "$database" -f "$script" ;;
    *.sh) sh "$script" ;;
    *) echo "postgres: $script is neither .sql nor .sh" >&2 ;;
  esac
done
[ -z "$first" ] || pg_ctl -D "$PGDATA" -s -w -t 300 -m fast stop

exec postgres -c listen_addresses='*' -c unix_socket_directories=/tmp "$@"
