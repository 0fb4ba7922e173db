#!/bin/bash
# Measures sampan beside nginx, net/http's file server, docker-registry and
# distribution 3:
#
#   bench/run.sh [-rounds N] [-kills N] [-write bench/README.md] [case…]
#
# Cases: warm small tls cold link throttled lossy fast ahead stampede resets kills
# memory wrong copy; none means all. Runs on Debian, as root, and installs what is
# missing. Everything it writes is below bench/.work, but for the soak test of
# kills, which writes below the system's temporary directory. It leaves neither
# processes nor network namespaces behind, however it ends.
set -euo pipefail
cd "$(dirname "$0")/.."

export PATH="$PATH:/usr/local/go/bin:/usr/sbin"
export DEBIAN_FRONTEND=noninteractive

missing=()
for package in nginx-light:nginx docker-registry:docker-registry iproute2:ip skopeo:skopeo; do
	command -v "${package#*:}" >/dev/null || missing+=("${package%:*}")
done
if [ ${#missing[@]} -gt 0 ]; then
	apt-get update -qq
	# Their services must not start: the cases run programs of their own.
	apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

work=bench/.work
mkdir -p "$work/bin"

# distribution 3 is built once, in a module of its own: its requirements are none
# of ours.
distribution=v3.0.0
if [ ! -x "$work/bin/distribution3" ] || [ "$(cat "$work/bin/distribution3.version" 2>/dev/null)" != "$distribution" ]; then
	rm -rf "$work/distribution3"
	mkdir -p "$work/distribution3"
	printf 'module bench.test/distribution3\n\ngo 1.26\n\nrequire github.com/distribution/distribution/v3 %s\n' "$distribution" >"$work/distribution3/go.mod"
	(
		cd "$work/distribution3"
		CGO_ENABLED=0 go build -mod=mod -trimpath -ldflags='-s -w' -o ../bin/distribution3 github.com/distribution/distribution/v3/cmd/registry
	)
	echo "$distribution" >"$work/bin/distribution3.version"
fi

# crane likewise, at the version that the end-to-end tests pin.
crane=v0.22.1
if [ ! -x "$work/bin/crane" ] || [ "$(cat "$work/bin/crane.version" 2>/dev/null)" != "$crane" ]; then
	rm -rf "$work/crane"
	mkdir -p "$work/crane"
	(
		cd "$work/crane"
		go mod init bench.test/crane
		go get "github.com/google/go-containerregistry@$crane"
		CGO_ENABLED=0 go build -mod=mod -trimpath -ldflags='-s -w' -o ../bin/crane github.com/google/go-containerregistry/cmd/crane
	)
	echo "$crane" >"$work/bin/crane.version"
fi

CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o "$work/bin/" ./cmd/sampan ./bench ./bench/load ./bench/fileserver ./bench/longlink

ulimit -n "$(ulimit -Hn)"
exec "$work/bin/bench" -work "$work" -bin "$work/bin" "$@"
