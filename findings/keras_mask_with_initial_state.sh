#!/usr/bin/env bash
# Keras 3.15.1 on TensorFlow 2.21: a recurrent layer in a functional model takes the mask of the Embedding
# below it, but not where it is given initial_state=, as a decoder is by its encoder: then padded steps
# are computed like others, without a word, though the layer passes the same mask on to the loss. In
# tf_keras 2.21 (Keras 2) the mask counts in both cases.
#
# Seen (outputs of the steps of [1, 2, 0, 0], of which the last two are masked; repeated: masked steps repeat
# the output of the last step that is not):
#     keras alone: repeated
#     keras with initial_state: computed
#     tf_keras alone: repeated
#     tf_keras with initial_state: repeated
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'keras==3.15.1' 'tensorflow-cpu==2.21.0' 'tf_keras==2.21.0' 'numpy<3'
cat > "$work/run.py" <<'PYTHON'
import keras
import numpy as np
import tf_keras

words = np.array([[1, 2, 0, 0]], "int32")
state = np.ones((1, 3), "float32")
for library in (keras, tf_keras):
    layers = library.layers
    for starts in (False, True):
        library.utils.set_random_seed(0)
        tokens, begin = library.Input((4,), dtype="int32"), library.Input((3,))
        x = layers.Embedding(5, 2, mask_zero=True)(tokens)
        gru = layers.GRU(3, return_sequences=True)
        y = gru(x, initial_state=begin) if starts else gru(x)
        inputs = [tokens, begin] if starts else tokens
        model = library.Model(inputs, y)
        out = np.asarray(model.predict([words, state] if starts else words, verbose=0))[0]
        same = np.allclose(out[1], out[2]) and np.allclose(out[1], out[3])
        how = "with initial_state" if starts else "alone"
        print(f"{library.__name__.split('.')[0]} {how}: {'repeated' if same else 'computed'}")
PYTHON
cat > "$work/expected" <<'TEXT'
keras alone: repeated
keras with initial_state: computed
tf_keras alone: repeated
tf_keras with initial_state: repeated
TEXT
TF_CPP_MIN_LOG_LEVEL=3 "$work/venv/bin/python" "$work/run.py" 2>/dev/null | grep ':' | tee "$work/seen"
diff "$work/expected" "$work/seen"
