#!/usr/bin/env bash
# A sweep over seeds from the shell: trains each, then prints mean ± sd of a held-out metric.
#   scripts/sweep.sh [CONF] [METRIC] [SEED]... [-- KEY=VALUE... --jobs N ...]
# `crh-train run -m` keeps a ledger, so the same words go on where the sweep stopped and do again what failed. Exits as
# it does; with 2 where all went well and the runs have no such metric.
set -euo pipefail
conf=${1:-mri_step}; metric=${2:-psnr}
shift $(($# < 2 ? $# : 2))
seeds=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do seeds+=("$1"); shift; done
[ $# -gt 0 ] && shift
[ ${#seeds[@]} -gt 0 ] || seeds=(0 1 2)

# A misspelt metric is told before anything is trained, where this Python has crh-train; else by the runs in the end.
python3 -c '
import re, sys
try:
    from crh_train.reports.inputs import METRICS
except ImportError:
    sys.exit()
if re.sub(r"_[0-9]+$", "", sys.argv[1]) not in METRICS:
    print(f"error: there is no metric {sys.argv[1]!r}: give one of", ", ".join(METRICS), file=sys.stderr)
    sys.exit(2)
' "$metric" || exit

code=0
found=$(crh-train run -m "conf=$conf" "engine.seed=$(IFS=,; echo "${seeds[*]}")" "$@" --json) || code=$?
[ -n "$found" ] || exit "$code" # of an option that there is not, it has said so
summed=0
python3 -c '
import json, math, statistics, sys
found, metric, groups, lacking = json.load(sys.stdin), sys.argv[1], {}, {}
for run in [found] if "runs" not in found else found["runs"]:
    if "error" in run:
        print("failed:", *run.get("overrides", []), run["message"])
        continue
    there = {name: float(value) for name, value in run["validation"].items() if value is not None}
    if metric not in there:
        lacking[run["conf"]] = there
        continue
    print("seed {}: {} {}".format(run["seed"], metric, there[metric]))
    groups.setdefault(run["config_hash"], (run["conf"], []))[1].append(there[metric])
for conf, values in groups.values():
    sd = 0.0 if len(values) == 1 else statistics.stdev(values) if all(map(math.isfinite, values)) else math.nan
    print("{} {} over {} seeds: {:.4f} ± {:.4f}".format(conf, metric, len(values), statistics.fmean(values), sd))
for conf, there in lacking.items():
    print("error: runs of {} have no {}: give one of {}".format(conf, metric, ", ".join(there)), file=sys.stderr)
sys.exit(2 if lacking else 0)
' "$metric" <<<"$found" || summed=$?
[ "$code" -ne 0 ] || code=$summed
exit "$code"
