#!/bin/bash
# Measures sampan beside nginx, net/http's file server, docker-registry,
# distribution 3, skopeo, crane and regsync:
#
#   bench/run.sh [-rounds N] [-kills N] [-write bench/README.md] [case…]
#
# Cases: warm small tls cold link throttled lossy fast ahead stampede resets kills
# memory wrong copy sync; none means all. Runs on Debian, as root, and installs what is
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

# client builds a program of a module likewise.
client() {
	local name=$1 module=$2 version=$3 package=$4
	if [ -x "$work/bin/$name" ] && [ "$(cat "$work/bin/$name.version" 2>/dev/null)" = "$version" ]; then
		return
	fi
	rm -rf "${work:?}/$name"
	mkdir -p "$work/$name"
	(
		cd "$work/$name"
		go mod init "bench.test/$name"
		go get "$module@$version"
		CGO_ENABLED=0 go build -mod=mod -trimpath -ldflags='-s -w' -o "../bin/$name" "$module/$package"
	)
	echo "$version" >"$work/bin/$name.version"
}

# The versions are those that the end-to-end tests pin, of regctl for regsync.
client crane github.com/google/go-containerregistry v0.22.1 cmd/crane
client regsync github.com/regclient/regclient v0.11.7 cmd/regsync

CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o "$work/bin/" ./cmd/sampan ./bench ./bench/load ./bench/fileserver ./bench/longlink

ulimit -n "$(ulimit -Hn)"
exec "$work/bin/bench" -work "$work" -bin "$work/bin" "$@"
