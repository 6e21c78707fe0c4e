#!/usr/bin/env bash
# safetensors 0.8.0, NumPy: save_file of a transposed array (or any view that is not C-contiguous, such as
# the weight of an LSTM turned for another library) writes the right shape over the memory's own order
# of numbers, without an error; what is loaded is another matrix. np.ascontiguousarray first is right,
# and so was 0.6.2 without it.
#
# Seen:
#     shape kept: True; numbers kept: False
#     after np.ascontiguousarray: True
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'safetensors==0.8.0' 'numpy<3'
cat > "$work/run.py" <<'PYTHON'
import sys

import numpy as np
from safetensors.numpy import load_file, save_file

weight = np.arange(12, dtype=np.float32).reshape(3, 4).T
path = f"{sys.argv[1]}/w.safetensors"
save_file({"w": weight}, path)
loaded = load_file(path)["w"]
kept = np.array_equal(loaded, weight)
print(f"shape kept: {loaded.shape == weight.shape}; numbers kept: {kept}")
save_file({"w": np.ascontiguousarray(weight)}, path)
print(f"after np.ascontiguousarray: {np.array_equal(load_file(path)['w'], weight)}")
PYTHON
"$work/venv/bin/python" "$work/run.py" "$work" | tee "$work/seen"
diff "$work/seen" - <<'SEEN'
shape kept: True; numbers kept: False
after np.ascontiguousarray: True
SEEN
