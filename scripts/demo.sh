#!/usr/bin/env bash
# Trains on the MNI152 template, replays the end of the run as a machine of 2008 would (one thread, no AVX), verifies
# its last checkpoint, and makes a page of all that to open in a browser.
set -euo pipefail
say() { printf '\n\033[1m$ %s\033[0m\n' "$*"; "$@"; }
field() { python -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"; }

say crh-train run conf=mri_cosine
done=$(crh-train run conf=mri_cosine --json)   # the run is finished, so this only tells its hash
case $(uname -m) in
    x86_64) older=(env XLA_FLAGS=--xla_cpu_max_isa=SSE4_2) ;;
    *) older=() ;;
esac
say "${older[@]}" crh-train replay "$(field run <<<"$done")" --from 28 runtime.threads=1
say crh-train verify "$(field checkpoint <<<"$done")"
say crh-train report "$(field run <<<"$done")"
printf '\nopen in a browser: %s\n' "$PWD/runs/$(field run <<<"$done").html"
