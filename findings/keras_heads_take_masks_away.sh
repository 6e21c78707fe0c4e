#!/usr/bin/env bash
# Keras 3.15.1 on TensorFlow 2.21: MultiHeadAttention takes the mask off the tensors that it reads. A layer
# that is called on the same tensor later finds none, and nothing is said: in eager code an LSTM runs
# through the padding if it is written a line below the attention, and stops there if it is written a line
# above; in a functional model the loss of another output counts the padding. Attention and
# AdditiveAttention leave masks where they are.
#
# Seen:
#     LSTM: stops at the padding
#     MultiHeadAttention, LSTM: does not stop
#     Attention, LSTM: stops at the padding
#     loss of a Dense, wrong only in padding: 0
#     beside MultiHeadAttention: 50
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'keras==3.15.1' 'tensorflow-cpu==2.21.0' 'numpy<3'
cat > "$work/run.py" <<'PYTHON'
import keras
import numpy as np
from keras import layers

ids = np.array([[3, 7, 0, 0]])
embedding = layers.Embedding(10, 3, mask_zero=True)
lstm = layers.LSTM(3, return_sequences=True)
for name in ("", "MultiHeadAttention, ", "Attention, "):
    x = embedding(ids)
    if name == "MultiHeadAttention, ":
        layers.MultiHeadAttention(1, 2)(x, x)
    elif name == "Attention, ":
        layers.Attention()([x, x])
    y = np.asarray(lstm(x))
    stops = (y[0, 1] == y[0, 3]).all()
    print(f"{name}LSTM: {'stops at the padding' if stops else 'does not stop'}")

for what in ("loss of a Dense, wrong only in padding", "beside MultiHeadAttention"):
    words = keras.Input((4,), dtype="int32")
    x = layers.Embedding(10, 3, mask_zero=True)(words)
    outputs = [layers.Dense(2)(x), layers.Dense(3)(x)]
    if what == "beside MultiHeadAttention":
        outputs[1] = layers.MultiHeadAttention(1, 2)(x, x)
    model = keras.Model(words, outputs)
    model.compile("sgd", ["mse", None])
    y = [np.array(part) for part in model(ids)]
    y[0][0, 2:] += 10
    print(f"{what}: {model.test_on_batch(ids, y, return_dict=True)['loss']:.0f}")
PYTHON
cat > "$work/expected" <<'TEXT'
LSTM: stops at the padding
MultiHeadAttention, LSTM: does not stop
Attention, LSTM: stops at the padding
loss of a Dense, wrong only in padding: 0
beside MultiHeadAttention: 50
TEXT
TF_CPP_MIN_LOG_LEVEL=3 "$work/venv/bin/python" "$work/run.py" 2>/dev/null | grep ':' | tee "$work/seen"
diff "$work/expected" "$work/seen"
