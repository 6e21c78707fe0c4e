#!/usr/bin/env bash
# Keras 3.15.1 on TensorFlow 2.21: a functional model with an operation between its layers, x + y, x * 2 or
# x[:, -1] of a recurrent layer's output, is saved to an .h5 file without a complaint, and Keras cannot load
# the file: it holds the operation under its bare class name, without the module that tells Add of
# keras.ops from the layer Add, and so the layer of that name gets the operation's arguments, or there is
# none of that name. The .keras file of the same model is loaded.
#
# Seen:
#     x + y: .h5 TypeError, .keras loaded
#     x * 2: .h5 ValueError, .keras loaded
#     last step: .h5 ValueError, .keras loaded
#     mean: .h5 ValueError, .keras loaded
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'keras==3.15.1' 'tensorflow-cpu==2.21.0' 'numpy<3'
cat > "$work/run.py" <<'PYTHON'
import sys

import keras
from keras import layers, ops

x = layers.Input((5, 3))
y = layers.GRU(3, return_sequences=True)(x)
for name, output in (
    ("x + y", x + y),
    ("x * 2", y * 2),
    ("last step", y[:, -1]),
    ("mean", ops.mean(y, axis=1)),
):
    model, ends = keras.Model(x, output), []
    for ending in (".h5", ".keras"):
        model.save(sys.argv[1] + ending)
        try:
            keras.models.load_model(sys.argv[1] + ending, compile=False)
            ends.append(f"{ending} loaded")
        except Exception as error:
            ends.append(f"{ending} {type(error).__name__}")
    print(f"{name}: {', '.join(ends)}")
PYTHON
cat > "$work/expected" <<'TEXT'
x + y: .h5 TypeError, .keras loaded
x * 2: .h5 ValueError, .keras loaded
last step: .h5 ValueError, .keras loaded
mean: .h5 ValueError, .keras loaded
TEXT
TF_CPP_MIN_LOG_LEVEL=3 "$work/venv/bin/python" "$work/run.py" "$work/model" 2>/dev/null | grep ': .h5' | tee "$work/seen"
diff "$work/expected" "$work/seen"
