#!/bin/bash
# Puts the program sampan at $SAMPAN, in one of two ways:
#
#   SAMPAN_URL, SAMPAN_SHA256   from an address (https), if its SHA-256 is this one
#   neither                     built from the working directory, if that is sampan's source
set -euo pipefail

if [[ -n ${SAMPAN_URL:-} ]]; then
	if [[ ! ${SAMPAN_SHA256:-} =~ ^[0-9a-f]{64}$ ]]; then
		echo "install: SAMPAN_URL needs SAMPAN_SHA256, 64 digits in lower case" >&2
		exit 1
	fi
	part=$(mktemp "$SAMPAN.XXXXXX")
	trap 'rm -f "$part"' EXIT
	# --proto holds for the address, --proto-redir for where it leads.
	curl --fail --silent --show-error --location --retry 3 --proto =https --proto-redir =https \
		--max-time 600 --output "$part" --url "$SAMPAN_URL"
	if ! echo "$SAMPAN_SHA256  $part" | sha256sum --check --status --strict; then
		echo "install: what is at SAMPAN_URL has another SHA-256 than SAMPAN_SHA256" >&2
		exit 1
	fi
	chmod 755 "$part"
	mv "$part" "$SAMPAN"
elif grep -qxF 'module sampan' go.mod 2>/dev/null; then
	CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o "$SAMPAN" ./cmd/sampan
else
	echo "install: set the variables SAMPAN_URL and SAMPAN_SHA256, or use a repository with sampan's source" >&2
	exit 1
fi
"$SAMPAN" --version
