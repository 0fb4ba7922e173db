#!/bin/bash
# Installs what the end-to-end tests need and runs them, as root on Debian 12.
# Arguments go to the tests: e2e/run.sh -run Podman, e2e/run.sh -json
set -euo pipefail
cd "$(dirname "$0")"

./install.sh
log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
go test -tags e2e -count=1 -timeout 30m -v "$@" . 2>&1 | tee "$log" || status=$?

# count PASS: how many tests and cases ended so, in plain output or in JSON.
count() { grep -cE "(^|\"Output\":\") *--- $1: " "$log" || true; }
failed=$(count FAIL)
if [ "$status" -ne 0 ] && [ "$failed" -eq 0 ]; then
	failed=1 # it did not come to the tests
fi
echo "e2e: $(count PASS) passed, $failed failed, $(count SKIP) skipped"
exit "$status"
