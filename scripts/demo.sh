#!/usr/bin/env bash
# Trains on the MNI152 template, replays the run bit for bit, verifies its last checkpoint, and says where the report is.
set -euo pipefail
say() { printf '\n\033[1m$ %s\033[0m\n' "$*"; "$@"; }
field() { python -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"; }

say crh-train run conf=mri_cosine
done=$(crh-train run conf=mri_cosine --json)   # the run is finished, so this only tells its hash
say crh-train replay "$(field run <<<"$done")"
say crh-train verify "$(field checkpoint <<<"$done")"
printf '\nreport: %s\n' "$(field report <<<"$done")"
