#!/bin/sh
# The whole comparison from a checkout: builds `sc`, writes the two benchmark files once, runs both programs in
# turns. Needs the environment that README.md makes. Extra arguments go to compare.py.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
python="$here/.venv/bin/python"
data="$here/data"
if [ ! -x "$python" ]; then
    echo "no $python: make it first, see $here/README.md" >&2
    exit 1
fi
(cd "$here/../.." && cargo build --release -p sc-cli)
mkdir -p "$data" "$here/results"
[ -f "$data/a_2k.h5ad" ] || "$python" "$here/make_data.py" "$data/a_2k.h5ad" --cells 20000 --genes 2000 --density 0.35
[ -f "$data/b_16k.h5ad" ] || "$python" "$here/make_data.py" "$data/b_16k.h5ad" --cells 10000 --genes 16000 --density 0.12
exec python3 "$here/compare.py" "$data/a_2k.h5ad" "$data/b_16k.h5ad" --json "$here/results/compare.json" "$@"
