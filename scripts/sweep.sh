#!/usr/bin/env bash
# A sweep over seeds from the shell: trains each, then prints mean ± sd of a held-out metric.
#   scripts/sweep.sh [CONF] [METRIC] [SEED]... [-- KEY=VALUE...]
# A run that is finished already is not done twice, so an interrupted sweep is started again with the same words.
set -euo pipefail
conf=${1:-mri_step}; metric=${2:-psnr}
shift $(($# < 2 ? $# : 2))
seeds=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do seeds+=("$1"); shift; done
[ $# -gt 0 ] && shift
[ ${#seeds[@]} -gt 0 ] || seeds=(0 1 2)

value() { python3 -c 'import json, sys; print(json.load(sys.stdin)["validation"][sys.argv[1]])' "$metric"; }

values=()
for seed in "${seeds[@]}"; do
    found=$(crh-train run "conf=$conf" "engine.seed=$seed" "$@" --json | value)
    echo "seed $seed: $metric $found"
    values+=("$found")
done
printf '%s\n' "${values[@]}" | awk -v name="$conf $metric" '
    { n++; sum += $1; squares += $1 * $1 }
    END {
        mean = sum / n; sd = n > 1 ? sqrt((squares - n * mean * mean) / (n - 1)) : 0
        printf "%s over %d seeds: %.4f ± %.4f\n", name, n, mean, sd
    }'
