#!/usr/bin/env bash
# The paper from its corpora to its tables, in a folder, by the rules of paper.mk:
#
#   launch/paper.sh --tiny paper_tiny
#   launch/paper.sh . 1 7 -j 2 TRAIN='sbatch --wait launch/slurm_v100.sh'
#
# The folder has corpora/{LibriLight,LibriSpeech,alignments,VoiceBank,WSJ0-CHiME3,DNS2020,WHAM,LibriMix} in their own
# layouts, and gets data/ and runs/. With --tiny they are generated, and networks and updates are as small as can be, to
# see that every step fits the next. Then come numbers of tables (default: all; with --tiny those whose models are of
# every kind, 1 2 3 4 6 7), then flags and variables of GNU make: -n shows the steps, -k goes on after an error. The same
# command goes on where it was.
set -euo pipefail

fail() {
    echo "launch: $1" >&2
    exit 2
}

tables=(1 2 3 4 6 7 8 9 10) small=()
if [ "${1:-}" = --tiny ]; then
    shift
    tables=(1 2 3 4 6 7)
    flags="--config.optim.updates=3 --config.optim.warmup=1 --config.data.seconds=12 '--config.data.buckets=(4.0,)'"
    flags+=" --config.run.valid_batches=1 --config.run.workers=1 --config.run.pictures=1 --config.sample.steps=2"
    export JAX_DISABLE_MOST_OPTIMIZATIONS=1 # of compiling, which takes most of the time
    timing="--config.optim.updates=100 --config.optim.peak=1e-2" # or what is said lasts no time
    small=(SIZE=tiny MIXTURES_train=6 MIXTURES_valid=6 HOURS=0.005 "FLAGS=$flags" "TIMING=$timing")
fi
[ "$#" -gt 0 ] && [[ "$1" != -* ]] || fail "expected a folder, as in: launch/paper.sh --tiny paper_tiny; got ${1:-nothing}"
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd) folder=$1
shift
if [[ "${1:-}" =~ ^[0-9]+$ ]]; then tables=(); fi
while [[ "${1:-}" =~ ^[0-9]+$ ]]; do
    tables+=("$1")
    shift
done
for name in make python sfjax; do
    command -v "$name" >/dev/null || fail "$name is not on the PATH; activate the environment, install GNU make"
done

if [ "${#small[@]}" -gt 0 ]; then
    if [ ! -d "$folder/corpora" ]; then
        rm -rf "$folder/corpora.part"
        python "$root/launch/miniatures.py" "$folder/corpora.part"
        touch "$folder/corpora.part/generated"
        mv "$folder/corpora.part" "$folder/corpora"
    fi
    [ -e "$folder/corpora/generated" ] || fail "$folder/corpora: real ones lie there; --tiny wants a folder of its own"
else
    [ -d "$folder/corpora" ] || fail "$folder/corpora: no such folder; put the corpora there, or links to them"
    [ ! -e "$folder/corpora/generated" ] || fail "$folder/corpora: generated ones lie there; add --tiny"
fi
cd "$folder"
export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-$PWD/cache} # many rows differ in numbers only
make --no-print-directory -f "$root/launch/paper.mk" "CONFIGS=$root/configs" "${small[@]}" "$@" "${tables[@]/#/table}"
for table in "${tables[@]}"; do
    echo
    sfjax evaluate --table "$table" --runs runs
done
