#!/usr/bin/env bash
# onnx 1.23.0: onnx.reference runs an LSTM node over all steps of every sequence, whatever its input
# `sequence_lens` says: Y_h is the state after the last step, padding included, and Y is not zero behind
# a sequence's end, as the operator's specification and ONNX Runtime 1.32.0 have it. So the reference
# evaluator, which is meant to say what a model means, is no judge of masked recurrent networks.
#
# Seen (greatest difference from a plain NumPy LSTM that stops at each length):
#     onnxruntime: equal; onnx.reference: differs
#     onnx.reference equals the LSTM without lengths: True
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'onnx==1.23.0' 'onnxruntime==1.32.0' 'numpy<3'
cat > "$work/run.py" <<'PYTHON'
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

rng = np.random.default_rng(0)
steps, batch, features, units = 5, 2, 3, 4
x = rng.standard_normal((steps, batch, features)).astype(np.float32)
w = rng.standard_normal((1, 4 * units, features)).astype(np.float32)
r = rng.standard_normal((1, 4 * units, units)).astype(np.float32)
lengths = np.array([5, 2], np.int32)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def last_states(lengths):
    states = []
    for b, length in enumerate(lengths):
        h = c = np.zeros(units)
        for t in range(length):
            i, o, f, g = np.split(w[0] @ x[t, b] + r[0] @ h, 4)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
        states.append(h)
    return np.stack(states)


node = helper.make_node("LSTM", ["x", "w", "r", "", "n"], ["", "h"], hidden_size=units)
graph = helper.make_graph(
    [node],
    "lstm",
    [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape),
        helper.make_tensor_value_info("n", TensorProto.INT32, lengths.shape),
    ],
    [helper.make_tensor_value_info("h", TensorProto.FLOAT, (1, batch, units))],
    [onnx.numpy_helper.from_array(w, "w"), onnx.numpy_helper.from_array(r, "r")],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
onnx.checker.check_model(model)
feed = {"x": x, "n": lengths}
session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
runtime = session.run(None, feed)[0][0]
reference = ReferenceEvaluator(model).run(None, feed)[0][0]
expected = last_states(lengths)
verdict = ["equal" if np.abs(y - expected).max() < 1e-5 else "differs" for y in (runtime, reference)]
print(f"onnxruntime: {verdict[0]}; onnx.reference: {verdict[1]}")
whole = np.abs(reference - last_states([steps] * batch)).max() < 1e-5
print(f"onnx.reference equals the LSTM without lengths: {whole}")
PYTHON
"$work/venv/bin/python" "$work/run.py" | tee "$work/seen"
diff "$work/seen" - <<'SEEN'
onnxruntime: equal; onnx.reference: differs
onnx.reference equals the LSTM without lengths: True
SEEN
