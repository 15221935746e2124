#!/usr/bin/env bash
# Train a model for every task of this package on one machine, from a folder of recordings, by the rules in box.mk:
#
#   launch/box.sh DATA box
#   launch/box.sh DATA box enhance -n
#
# DATA contains manifest.jsonl, more/manifest.jsonl (with path, set, spk, split, kind, dr), align.jsonl.xz and the
# recordings. The second folder gets data/, runs/ and weights/. Goals follow (base enhance separate extract speak vocoder;
# default: all), then flags or variables of GNU make: -n prints the steps, -k continues after an error. After a stop, run
# the same command again: it skips finished steps and resumes a training from its last checkpoint.
set -euo pipefail

fail() {
    echo "launch: $1" >&2
    exit 2
}

[ "$#" -ge 2 ] && [[ "$1$2" != -* ]] || fail "expected two folders, as in: launch/box.sh DATA box; got ${*:-nothing}"
[ -d "$1" ] || fail "$1: no such folder; name the folder with manifest.jsonl"
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd) data=$(cd "$1" && pwd) folder=$2
shift 2
for name in manifest.jsonl more/manifest.jsonl align.jsonl.xz; do
    [ -e "$data/$name" ] || fail "$data/$name: no such file; box.sh needs the layout that its first lines describe"
done
for name in make python sfjax; do
    command -v "$name" >/dev/null || fail "$name is not on the PATH; activate the environment, install GNU make"
done
mkdir -p "$folder"
cd "$folder"
export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-$PWD/cache}
export GLIBC_TUNABLES=${GLIBC_TUNABLES:-glibc.malloc.hugetlb=1}
exec make --no-print-directory -f "$root/launch/box.mk" "ROOT=$root" "DATA=$data" "$@"
