#!/usr/bin/env bash
# Start N processes of one run on this machine. They end together:
#
#   launch/local.sh 2 sfjax train --config=configs/pretrain.py:small --workdir=runs/small
#
# With GPUs, each process takes one. On a CPU, JAX_NUM_CPU_DEVICES sets the number of devices of each process. The exit
# code comes from the first process that failed; it is 75 if the run was preempted. SIGTERM to this script goes to all
# processes.
set -uo pipefail

fail() {
    echo "launch: $1" >&2
    exit 2
}

[[ "${1:-}" =~ ^[1-9][0-9]*$ ]] || fail "expected the number of processes, then a command; got ${1:-nothing}"
count=$1
shift
[ "$#" -gt 0 ] || fail "expected a command after the number of processes, as in: launch/local.sh 2 sfjax train …"
command -v "$1" >/dev/null || fail "$1 is not on the PATH; activate the environment"

port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
export JAX_COORDINATOR_ADDRESS=127.0.0.1:$port JAX_NUM_PROCESSES=$count
running=()
trap 'kill -s TERM "${running[@]}" 2>/dev/null' TERM INT # processes in the background ignore Ctrl-C
for ((i = 0; i < count; i++)); do
    share=()
    if command -v nvidia-smi >/dev/null && nvidia-smi >/dev/null 2>&1; then share=("CUDA_VISIBLE_DEVICES=$i"); fi
    env "${share[@]}" JAX_PROCESS_ID="$i" "$@" &
    running+=("$!")
done
code=0
for process in "${running[@]}"; do
    wait "$process"
    while kill -0 "$process" 2>/dev/null; do wait "$process"; done # a signal ends `wait`, not the process
    wait "$process"
    status=$?
    [ "$code" -ne 0 ] || code=$status
done
exit "$code"
