#!/usr/bin/env bash
# The paper's pre-training on every host of a TPU pod slice:
#
#   launch/tpu_pod.sh NAME ZONE --workdir=runs/large --config.run.checkpoints=gs://bucket/large \
#       --config.data.train=/data/speech.parquet --config.data.multiple=256
#
# Each host needs a checkout at ~/sfjax with a virtual environment .venv (pip install -e '.[tpu]'), and the data under
# the same path. A preempted run saves and starts again, as long as its machines exist.
set -euo pipefail

fail() {
    echo "launch: $1" >&2
    exit 2
}

[ "$#" -ge 3 ] || fail "expected NAME ZONE --workdir=DIR …"
command -v gcloud >/dev/null || fail "gcloud is not on the PATH; install the Google Cloud CLI"
name=$1 zone=$2
shift 2
case " $* " in *" --workdir"*) ;; *) fail "expected --workdir=DIR for the run" ;; esac
case " $* " in *" --config.run.checkpoints"*) ;; *) fail "hosts share no disk; set --config.run.checkpoints=gs://…" ;; esac

words=$(printf ' %q' --config=configs/pretrain.py:large "$@")
# the hosts expand the variables
# shellcheck disable=SC2016
program='cd ~/sfjax && . .venv/bin/activate && export SFJAX_CLUSTER=auto JAX_COMPILATION_CACHE_DIR=$HOME/.cache/sfjax
while sfjax train'$words'; code=$?; [ "$code" -eq 75 ]; do echo "launch: preempted, starting again"; done; exit "$code"'
exec gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --worker=all --command="$program"
