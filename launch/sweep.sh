#!/usr/bin/env bash
# Start one run for each line "NAME FLAGS…" of a list, with any command that trains:
#
#   launch/sweep.sh configs/sweeps/network.txt runs/network sbatch launch/slurm_h100.sh --config.data.train=speech.parquet
#
# A run gets the flags of the command, then --workdir=FOLDER/NAME, then the flags of its line. With sfjax train or
# launch/local.sh the runs follow each other; with sbatch all are queued. A finished run that is started again ends
# immediately. `sfjax report FOLDER -o runs.csv runs.png` compares the runs.
set -euo pipefail

fail() {
    echo "launch: $1" >&2
    exit 2
}

[ "$#" -ge 3 ] || fail "expected a list, a folder and a command, as in: launch/sweep.sh LIST runs/sweep sfjax train --config=…"
list=$1 folder=$2
shift 2
[ -f "$list" ] || fail "$list: no such list; see configs/sweeps"
command -v "$1" >/dev/null || [ -x "$1" ] || fail "$1 is not on the PATH; activate the environment"
failed=()
while read -r name flags <&3; do
    [[ -z "$name" || "$name" == \#* ]] && continue
    read -ra words <<<"$flags"
    echo "launch: $folder/$name $flags" >&2
    code=0
    "$@" "--workdir=$folder/$name" "${words[@]}" || code=$?
    [ "$code" -ne 75 ] && [ "$code" -ne 130 ] || exit "$code" # preempted or interrupted: run the sweep again to resume
    [ "$code" -eq 0 ] || failed+=("$name")
done 3<"$list"
[ "${#failed[@]}" -eq 0 ] || fail "these ended with an error: ${failed[*]}"
