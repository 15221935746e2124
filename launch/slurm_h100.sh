#!/usr/bin/env bash
# The paper's pre-training on one node of 8 H100 (or A100) GPUs, in bfloat16, one process for each GPU:
#
#   sbatch launch/slurm_h100.sh --workdir=runs/large --config.data.train=speech.parquet
#
# Submit from the checkout with its environment active. Further --config.… flags override the config. Install JAX with
# pip install 'jax[cuda13]'. Partition and account are flags of sbatch; --nodes=4 takes four such nodes.
#SBATCH --job-name=sfjax
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=12
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --signal=TERM@300
#SBATCH --open-mode=append
#SBATCH --output=sfjax-%j.log
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:-.}"
exec launch/requeue.sh srun --kill-on-bad-exit=0 \
    sfjax train --config=configs/pretrain.py:large --config.precision=bf16 \
    "--config.data.multiple=${SLURM_NTASKS:-8}" "$@"
