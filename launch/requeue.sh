#!/usr/bin/env bash
# Run a command inside a SLURM job, and queue the job again if the command was preempted (exit code 75).
# The scripts slurm_h100.sh and slurm_v100.sh end with it:
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
case " $* " in *" --workdir"*) ;; *) fail "expected --workdir=DIR for the run, on a disk that all nodes share" ;; esac

export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-$HOME/.cache/sfjax} # a requeued job reuses it
"$@"
code=$?
if [ "$code" -eq 75 ]; then
    echo "launch: preempted, all work is saved; job $SLURM_JOB_ID is queued again" >&2
    scontrol requeue "$SLURM_JOB_ID" || fail "could not queue job $SLURM_JOB_ID again; submit it again by hand"
fi
exit "$code"
