#!/usr/bin/env bash
# Installs the Debian packages that tests need, where they are missing: tests
# run against the system's own OpenSSH, and the race detector needs a C compiler.
set -euo pipefail

missing=()
need() { # need <package> <command>: the package provides the command
	PATH="$PATH:/usr/sbin" command -v "$2" >/dev/null || missing+=("$1")
}
need openssh-server sshd
need openssh-client ssh-keygen
need gcc gcc
need libc6-dev gcc
[[ ${#missing[@]} -gt 0 ]] || exit 0

echo "missing: ${missing[*]}"
if ! command -v apt-get >/dev/null; then
	echo "install them with this system's package manager, then try again" >&2
	exit 1
fi
as_root=()
if [[ $(id -u) != 0 ]]; then
	as_root=(sudo)
fi
# Nothing is started by installing it: the tests start their own sshd, as the
# user who runs them and on a port of its own.
policy=/usr/sbin/policy-rc.d
if [[ ! -e $policy ]]; then
	trap '"${as_root[@]}" rm -f "$policy"' EXIT
	printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
	"${as_root[@]}" chmod +x "$policy"
fi
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
	apt-get install -qq -y --no-install-recommends "${missing[@]}" </dev/null
