#!/bin/sh
# The production tracking server: PostgreSQL for records, an object store for files, accounts, a list of host names.
# Secrets come from the environment, so that no list of processes and no file shows them. What each variable means: docs/en/how-to/tracking-server.md.
set -eu

: "${MLFLOW_BACKEND_STORE_URI:?postgresql://USER@HOST/NAME; the password in PGPASSWORD}"
: "${MLFLOW_ARTIFACTS_DESTINATION:?s3://BUCKET/PREFIX, or a folder that is backed up}"
: "${MLFLOW_SERVER_ALLOWED_HOSTS:?the names under which clients reach this server, with commas, e.g. mlflow.example.com}"
: "${MLFLOW_FLASK_SERVER_SECRET_KEY:?a long random value, the same at each start}"
: "${MLFLOW_AUTH_ADMIN_PASSWORD:?of the first administrator, twelve characters or more}"

# Accounts lie in the same database, in tables of their own, unless told otherwise.
umask 077
settings=$(mktemp -d)
trap 'rm -rf "$settings"' EXIT
cat > "$settings/auth.ini" <<END
[mlflow]
default_permission = ${MLFLOW_AUTH_DEFAULT_PERMISSION:-READ}
database_uri = ${MLFLOW_AUTH_DATABASE_URI:-$MLFLOW_BACKEND_STORE_URI}
admin_username = ${MLFLOW_AUTH_ADMIN_USERNAME:-admin}
auth_cache_ttl_seconds = ${MLFLOW_AUTH_CACHE_SECONDS:-0}
END

export MLFLOW_AUTH_CONFIG_PATH="$settings/auth.ini"
export MLFLOW_BACKEND_STORE_URI MLFLOW_ARTIFACTS_DESTINATION MLFLOW_SERVER_ALLOWED_HOSTS MLFLOW_FLASK_SERVER_SECRET_KEY MLFLOW_AUTH_ADMIN_PASSWORD
export MLFLOW_DISABLE_TELEMETRY=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false

# The shell stays above it, to clear up behind it and to hand on the signal that ends it.
"${PYTHON:-python}" -m mlflow server --app-name basic-auth --host "${MLFLOW_HOST:-127.0.0.1}" --port "${MLFLOW_PORT:-5000}" --workers "${MLFLOW_WORKERS:-2}" &
server=$!
trap 'kill -TERM "$server"' TERM INT
wait "$server" && code=0 || code=$?
kill -0 "$server" 2>/dev/null && wait "$server" && code=0 || true
exit "$code"
