#!/usr/bin/env bash
# A sweep over seeds from the shell: trains each, then prints mean ± sd of a held-out metric.
#   scripts/sweep.sh [CONF] [METRIC] [SEED]... [-- KEY=VALUE... --jobs N ...]
# `crh-train run -m` keeps a ledger, so the same words go on where the sweep stopped and do again what failed. Exits as
# it does.
set -euo pipefail
conf=${1:-mri_step}; metric=${2:-psnr}
shift $(($# < 2 ? $# : 2))
seeds=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do seeds+=("$1"); shift; done
[ $# -gt 0 ] && shift
[ ${#seeds[@]} -gt 0 ] || seeds=(0 1 2)

code=0
found=$(crh-train run -m "conf=$conf" "engine.seed=$(IFS=,; echo "${seeds[*]}")" "$@" --json) || code=$?
python3 -c '
import json, statistics, sys
found, metric, groups = json.load(sys.stdin), sys.argv[1], {}
for run in [found] if "runs" not in found else found["runs"]:
    if "error" in run:
        print("failed:", *run.get("overrides", []), run["message"])
        continue
    value = float(run["validation"][metric])
    print("seed {}: {} {}".format(run["seed"], metric, value))
    groups.setdefault(run["config_hash"], (run["conf"], []))[1].append(value)
for conf, values in groups.values():
    sd = statistics.stdev(values) if len(values) > 1 else 0.0
    print("{} {} over {} seeds: {:.4f} ± {:.4f}".format(conf, metric, len(values), statistics.fmean(values), sd))
' "$metric" <<<"$found"
exit "$code"
