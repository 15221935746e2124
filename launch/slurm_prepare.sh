#!/usr/bin/env bash
# Prepares a large folder in 64 tasks, each its share of the files, then merges their manifests into one:
#
#   job=$(sbatch --parsable launch/slurm_prepare.sh folder /data/speech speech.parquet --valid-share 0.001)
#   sbatch --dependency=afterok:"$job" --array=0 launch/slurm_prepare.sh merge speech.parquet
#
# The words are those of `sfjax prepare`; the manifest's name comes third, for pairs fourth. The
# parts lie beside it, as speech.part-0.parquet; a task that failed can be submitted alone, with --array=7.
#SBATCH --job-name=sfjax-prepare
#SBATCH --array=0-63
#SBATCH --cpus-per-task=8
#SBATCH --time=12:00:00
#SBATCH --output=sfjax-prepare-%A-%a.log
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:-.}"

fail() {
    echo "launch: $1" >&2
    exit 2
}

command -v sfjax >/dev/null || fail "sfjax is not on the PATH; activate the environment before sbatch"
[ -n "${SLURM_ARRAY_TASK_ID:-}" ] || fail "not inside a SLURM array; start it with sbatch"
case "${1:-}" in
pairs) place=4 ;;
merge)
    [ "$#" -eq 2 ] || fail "merge wants the manifest's name and nothing else"
    exec sfjax prepare merge "${2%.parquet}".part-*.parquet "$2"
    ;;
"" | align | mixtures | protocol | subset) fail "expected folder, pairs, jsonl, lhotse, parquet, a corpus or merge, got ${1:-nothing}" ;;
*) place=3 ;;
esac
[ "$#" -ge "$place" ] || fail "$1 wants its sources and the manifest's name; see sfjax prepare $1 --help"
dest=${!place}
exec sfjax prepare "${@:1:place-1}" "${dest%.parquet}.part-$SLURM_ARRAY_TASK_ID.parquet" "${@:place+1}" \
    --part "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT" --workers "${SLURM_CPUS_PER_TASK:-1}"
