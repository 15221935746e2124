#!/usr/bin/env bash
# Runs a command inside a SLURM job and queues the job again if the command was preempted (exit code 75).
# The slurm_*.sh scripts end with it:
#
#   launch/requeue.sh srun --kill-on-bad-exit=0 sfjax train --config=configs/pretrain.py:large --workdir=runs/large
set -uo pipefail

fail() {
    echo "launch: $1" >&2
    exit 2
}

[ -n "${SLURM_JOB_ID:-}" ] || fail "not inside a SLURM job; start it with sbatch"
for name in srun scontrol sfjax; do
    command -v "$name" >/dev/null || fail "$name is not on the PATH; activate the environment before sbatch"
done
case " $* " in *" --workdir"*) ;; *) fail "say where the run lives: --workdir=DIR, on a disk that all nodes see" ;; esac

export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-$HOME/.cache/sfjax} # a job queued again compiles nothing
"$@"
code=$?
if [ "$code" -eq 75 ]; then
    echo "launch: preempted after saving; job $SLURM_JOB_ID is queued again" >&2
    scontrol requeue "$SLURM_JOB_ID" || fail "could not queue job $SLURM_JOB_ID again; submit it again by hand"
fi
exit "$code"
