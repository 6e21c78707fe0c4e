#!/usr/bin/env bash
# Keras 3.15.1 on TensorFlow 2.21: what a layer is told when it is called in a functional model,
# training=True or training=False, holds only where the model itself is called without a mode. predict, fit
# and evaluate put their own in its place, without a word: dropout called with training=True, for
# uncertainty by sampling, drops nothing in predict, and dropout or a whole base model called with
# training=False, as the guide on transfer learning has it for batch statistics, is in training under fit.
# In tf_keras 2.21 (Keras 2) the argument counts.
#
# Seen (are any of 1,000 ones dropped?):
#     keras training=True, predict: no
#     keras training=True, called: yes
#     keras training=False, called in training: yes
#     tf_keras training=True, predict: yes
#     tf_keras training=True, called: yes
#     tf_keras training=False, called in training: no
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'keras==3.15.1' 'tensorflow-cpu==2.21.0' 'tf_keras==2.21.0' 'numpy<3'
cat > "$work/run.py" <<'PYTHON'
import keras
import numpy as np
import tf_keras

ones = np.ones((1, 1000), "float32")
for library in (keras, tf_keras):

    def model(mode):
        x = library.Input((1000,))
        return library.Model(x, library.layers.Dropout(0.5)(x, training=mode))

    for what, y in (
        ("training=True, predict", model(True).predict(ones, verbose=0)),
        ("training=True, called", model(True)(ones)),
        ("training=False, called in training", model(False)(ones, training=True)),
    ):
        dropped = bool((np.asarray(y) == 0).any())
        print(f"{library.__name__.split('.')[0]} {what}: {'yes' if dropped else 'no'}")
PYTHON
cat > "$work/expected" <<'TEXT'
keras training=True, predict: no
keras training=True, called: yes
keras training=False, called in training: yes
tf_keras training=True, predict: yes
tf_keras training=True, called: yes
tf_keras training=False, called in training: no
TEXT
TF_CPP_MIN_LOG_LEVEL=3 "$work/venv/bin/python" "$work/run.py" 2>/dev/null | grep ':' | tee "$work/seen"
diff "$work/expected" "$work/seen"
