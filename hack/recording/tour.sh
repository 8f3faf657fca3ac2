#!/usr/bin/env bash
# What the recording at the top of the README shows, typed as a person would. It needs a
# running lab: see record.sh.
set -euo pipefail

type_and_run() { # COMMAND [SECONDS TO READ]
	printf '\e[32m$\e[0m '
	for ((i = 0; i < ${#1}; i++)); do
		printf '%s' "${1:i:1}"
		sleep 0.03
	done
	sleep 0.3
	printf '\n'
	eval "$1" || true
	sleep "${2:-1.5}"
}

clear
type_and_run 'kubectl get connectionpools' 2
type_and_run 'kubectl connpool exec db -- uname -s'
type_and_run 'kubectl connpool run web --all -- date +%T' 2.5
type_and_run 'kubectl connpool check web-3' 2.5
type_and_run 'kubectl connpool history --limit 3' 3
