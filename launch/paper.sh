#!/usr/bin/env bash
# Reproduce the paper's tables from its corpora, in one folder, by the rules in paper.mk:
#
#   launch/paper.sh --tiny paper_tiny
#   launch/paper.sh . 1 7 -j 2 TRAIN='sbatch --wait launch/slurm_v100.sh'
#
# The folder contains corpora/{LibriLight,LibriSpeech,alignments,VoiceBank,WSJ0-CHiME3,DNS2020,WHAM,LibriMix} in their
# own layouts, and gets data/ and runs/. --tiny generates small corpora and trains the smallest networks for a few
# updates, to check that each step can read what the step before wrote. Numbers of tables follow (default: all; with
# --tiny 1 2 3 4 6 7, which need every kind of model), then flags and variables of GNU make: -n prints the steps, -k
# continues after an error. Run the same command again to resume.
set -euo pipefail

fail() {
    echo "launch: $1" >&2
    exit 2
}

tables=(1 2 3 4 6 7 8 9 10 11) small=()
if [ "${1:-}" = --tiny ]; then
    shift
    tables=(1 2 3 4 6 7)
    flags="--config.optim.epochs=0 --config.optim.updates=3 --config.optim.warmup=1 --config.data.seconds=12 '--config.data.buckets=(4.0,)'"
    flags+=" --config.run.valid_batches=1 --config.run.workers=1 --config.run.pictures=1 --config.sample.steps=2"
    export JAX_DISABLE_MOST_OPTIMIZATIONS=1 # compiling takes most of the time
    duration_model="--config.optim.updates=100 --config.optim.peak=1e-2" # after fewer updates, phones have no length
    small=(SIZE=tiny MIXTURES_train=6 MIXTURES_valid=6 HOURS=0.005 HOURS_dns=0.005 ITEMS=2 EACH=2 "FLAGS=$flags" "DURATION_MODEL=$duration_model")
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
    [ -e "$folder/corpora/generated" ] || fail "$folder/corpora: this folder holds real corpora; --tiny needs another"
else
    [ -d "$folder/corpora" ] || fail "$folder/corpora: no such folder; put the corpora, or links to them, there"
    [ ! -e "$folder/corpora/generated" ] || fail "$folder/corpora: this folder holds generated corpora; add --tiny"
fi
cd "$folder"
export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-$PWD/cache} # many rows share their programs
make --no-print-directory -f "$root/launch/paper.mk" "CONFIGS=$root/configs" "${small[@]}" "$@" "${tables[@]/#/table}"
for table in "${tables[@]}"; do
    echo
    sfjax evaluate --table "$table" --runs runs
done
