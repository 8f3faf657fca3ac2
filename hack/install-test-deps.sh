#!/usr/bin/env bash
# Installs the Debian packages that tests need, where they are missing: tests
# run against the system's own OpenSSH and Docker, with every login shell, the
# race detector needs a C compiler, the live API is tried with the Python and
# JavaScript clients of Kubernetes, our Python client is checked, the page of the plugin with Chromium, and a
# node with real pods is made of containerd and its like. A real Prometheus
# answers the queries of dashboards and alerts.
set -euo pipefail
PATH="$PATH:/usr/sbin"

as_root() {
	if [[ $(id -u) == 0 ]]; then "$@"; else sudo "$@"; fi
}

missing=()
command -v sshd >/dev/null || missing+=(openssh-server)
command -v ssh-keygen >/dev/null || missing+=(openssh-client)
command -v openssl >/dev/null || missing+=(openssl)
/usr/bin/python3 -c 'import kubernetes' 2>/dev/null || missing+=(python3-kubernetes)
command -v pyflakes3 >/dev/null || missing+=(pyflakes3)
command -v mypy >/dev/null || missing+=(mypy)
command -v npm >/dev/null || missing+=(nodejs npm)
[[ -x /usr/bin/chromium ]] || missing+=(chromium)
command -v promtool >/dev/null || missing+=(prometheus)
command -v gcc >/dev/null || missing+=(gcc libc6-dev)
command -v dockerd >/dev/null || missing+=(docker.io)
command -v containerd >/dev/null || missing+=(containerd)
command -v runc >/dev/null || missing+=(runc)
command -v ip >/dev/null || missing+=(iproute2)
[[ -x /usr/lib/cni/bridge ]] || missing+=(containernetworking-plugins)
# Arguments must arrive whatever the login shell is: all that Debian has.
for shell in zsh mksh fish tcsh yash posh; do
	command -v "$shell" >/dev/null || missing+=("$shell")
done
command -v ksh93 >/dev/null || missing+=(ksh93u+m)
command -v dropbear >/dev/null || missing+=(dropbear-bin)
command -v bsd-csh >/dev/null || missing+=(csh)
# Images are built of it, and nothing but it.
[[ -x /bin/busybox ]] || missing+=(busybox-static)

if [[ ${#missing[@]} -gt 0 ]]; then
	echo "missing: ${missing[*]}"
	if ! command -v apt-get >/dev/null; then
		echo "install them with this system's package manager, then try again" >&2
		exit 1
	fi
	# The tests start servers of their own. Installing them starts none.
	policy=/usr/sbin/policy-rc.d
	if [[ ! -e $policy ]]; then
		trap 'as_root rm -f "$policy"' EXIT
		printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
		as_root chmod +x "$policy"
	fi
	as_root apt-get update -qq
	as_root env DEBIAN_FRONTEND=noninteractive \
		apt-get install -qq -y --no-install-recommends "${missing[@]}" </dev/null
fi

# An sshd that runs as root wants this folder, which only its init script makes.
if [[ $(id -u) == 0 ]]; then
	mkdir -p /run/sshd
fi
