#!/usr/bin/env bash
# Prepare a large folder in 64 tasks, each with its share of the files, then merge their manifests into one:
#
#   job=$(sbatch --parsable launch/slurm_prepare.sh folder /data/speech speech.parquet --valid-share 0.001)
#   sbatch --dependency=afterok:"$job" --array=0 launch/slurm_prepare.sh merge speech.parquet
#
# The arguments are those of `sfjax prepare`; the name of the manifest is the third, or the fourth for pairs. The parts
# lie in the same folder, as speech.part-0.parquet. Submit a task that failed again with --array=7.
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
pairs) position=4 ;;
merge)
    [ "$#" -eq 2 ] || fail "merge needs the name of the manifest and nothing else"
    exec sfjax prepare merge "${2%.parquet}".part-*.parquet "$2"
    ;;
"" | align | mixtures | protocol | subset) fail "expected folder, pairs, jsonl, lhotse, parquet, a corpus or merge, got ${1:-nothing}" ;;
*) position=3 ;;
esac
[ "$#" -ge "$position" ] || fail "$1 needs its sources and the name of the manifest; see sfjax prepare $1 --help"
dest=${!position}
exec sfjax prepare "${@:1:position-1}" "${dest%.parquet}.part-$SLURM_ARRAY_TASK_ID.parquet" "${@:position+1}" \
    --part "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT" --workers "${SLURM_CPUS_PER_TASK:-1}"
