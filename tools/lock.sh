#!/bin/sh
# Write requirements/*.lock anew: `make lock` (newest versions: `make lock UPGRADE=--upgrade`).
# The locks must be the same whoever writes them, so this machine's own package settings stay out of the way.
set -eu
cd "$(dirname "$0")/.."
compile() {
    env -i PATH="$PATH" HOME="${TMPDIR:-/tmp}" SSL_CERT_FILE="${SSL_CERT_FILE:-}" UV_NO_CONFIG=1 PIP_CONFIG_FILE=/dev/null \
        UV_PYTHON_DOWNLOADS=never UV_CACHE_DIR="${UV_CACHE_DIR:-$HOME/.cache/uv}" \
        .venv/bin/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes \
        --no-header --no-emit-index-url --no-emit-find-links ${UPGRADE:-} "$@"
}
compile --extra server --group build --output-file requirements/server.lock
compile --extra server --group dev --output-file requirements/dev.lock
if grep -nE '://|@ |^-|^/' requirements/*.lock; then
    echo "a lock names a place" >&2
    exit 1
fi
