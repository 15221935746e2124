#!/usr/bin/env bash
# The paper's pre-training on 32 V100 GPUs, in float16 (they have no bfloat16), one process for each GPU:
#
#   sbatch launch/slurm_v100.sh --workdir=runs/large --config.data.train=speech.parquet
#
# Submit from the checkout with its environment active. Further --config.… flags override the config. A V100 needs
# pip install 'jax[cuda12]' 'nvidia-cudnn-cu12<9.11'. Partition and account are flags of sbatch.
#SBATCH --job-name=sfjax
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=10
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --signal=TERM@300
#SBATCH --open-mode=append
#SBATCH --output=sfjax-%j.log
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:-.}"
exec launch/requeue.sh srun --kill-on-bad-exit=0 \
    sfjax train --config=configs/pretrain.py:large --config.precision=fp16 --config.data.multiple=32 "$@"
