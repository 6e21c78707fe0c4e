"""What mypy sees of the public API; .ci/lint checks it, ignored errors included."""

import numpy as np

import fastrnn
from fastrnn import callbacks, layers

model = fastrnn.Sequential([layers.LSTM(4, return_sequences=True), layers.Dense(1)])
model.compile("adam", "mse", metrics=["mae"])
x = np.zeros((2, 3, 5), np.float32)
history: callbacks.History = model.fit(x, np.zeros((2, 3, 1)), verbose=0)
outputs: np.ndarray = model.predict(x, verbose=0)
weights: list[np.ndarray] = model.get_weights()
names: list[str] = [layer.name for layer in model.layers]
threads: int = fastrnn.get_num_threads()
threads.bit_length()

model.pedict(x)  # type: ignore[attr-defined]
fastrnn.set_num_threads("2")  # type: ignore[arg-type]
wrong: int = model.fit(x, x)  # type: ignore[assignment]
layers.LSMT(4)  # type: ignore[attr-defined]
