#!/bin/sh
# Write tests/clients/*/*.lock, tests/az's and tests/fuzz's anew after a change of *.in (newest versions: UPGRADE=--upgrade tests/clients/lock.sh).
# The locks must be the same whoever writes them, so this machine's own package settings stay out of the way.
set -eu
cd "$(dirname "$0")"
uv="$PWD/../../.venv/bin/uv"
compile() {
    folder=$1 kind=$2
    shift 2
    (cd "$folder" && env -i PATH="$PATH" HOME="${TMPDIR:-/tmp}" SSL_CERT_FILE="${SSL_CERT_FILE:-}" UV_NO_CONFIG=1 PIP_CONFIG_FILE=/dev/null \
        UV_PYTHON_DOWNLOADS=never UV_CACHE_DIR="${UV_CACHE_DIR:-$HOME/.cache/uv}" \
        "$uv" pip compile "$kind.in" --quiet --universal --python-version 3.11 --generate-hashes --only-binary :all: \
        --no-header --no-emit-index-url --no-emit-find-links ${UPGRADE:-} "$@" --output-file "$kind.lock")
}
compile langchain requirements
compile deepagents requirements
compile llamaindex requirements
compile autogen requirements
compile mcp_1 requirements
compile mcp_2 requirements
compile azure_mgmt requirements
compile azure_identity requirements
compile agent_framework requirements
compile openai_agents requirements
compile smolagents requirements
compile pydantic_ai requirements
compile ../az requirements
compile ../fuzz requirements
# pybars4 and pymeta3 have no wheels; build.lock pins what uv builds them with.
compile semantic_kernel requirements --no-binary pybars4 --no-binary pymeta3
compile semantic_kernel build
if grep -nE '://|@ |^-|^/' ./*/*.lock ../az/*.lock ../fuzz/*.lock; then
    echo "a lock names a place" >&2
    exit 1
fi
