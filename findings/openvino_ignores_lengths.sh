#!/usr/bin/env bash
# OpenVINO 2026.4.1, CPU: an ONNX LSTM with `sequence_lens` is right while all shapes are fixed; as soon as
# the batch or the time axis is dynamic, the lengths are ignored without a word, and Y_h is the state
# after the padding. ONNX Runtime 1.32.0 is right either way.
#
# Seen (Y_h against ONNX Runtime's of the same model):
#     fixed shapes: equal
#     dynamic time axis: differs
#     dynamic batch: differs
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'openvino==2026.4.1' 'onnx==1.23.0' 'onnxruntime==1.32.0' 'numpy<3'
cat > "$work/run.py" <<'PYTHON'
import sys

import numpy as np
import onnx
import onnxruntime
import openvino
from onnx import TensorProto, helper

rng = np.random.default_rng(0)
steps, batch, features, units = 6, 2, 3, 4
x = rng.standard_normal((steps, batch, features)).astype(np.float32)
lengths = np.array([6, 2], np.int32)
weights = {
    "w": rng.standard_normal((1, 4 * units, features)).astype(np.float32),
    "r": rng.standard_normal((1, 4 * units, units)).astype(np.float32),
}


def run(title, shape, rows):
    node = helper.make_node("LSTM", ["x", "w", "r", "", "n"], ["", "h"], hidden_size=units)
    graph = helper.make_graph(
        [node],
        "lstm",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, shape),
            helper.make_tensor_value_info("n", TensorProto.INT32, [rows]),
        ],
        [helper.make_tensor_value_info("h", TensorProto.FLOAT, [1, rows, units])],
        [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = f"{sys.argv[1]}/model.onnx"
    onnx.save(model, path)
    feed = {"x": x, "n": lengths}
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    expected = session.run(None, feed)[0]
    compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    received = next(iter(compiled(feed).values()))
    print(f"{title}: {'equal' if np.abs(received - expected).max() < 1e-4 else 'differs'}")


run("fixed shapes", [steps, batch, features], batch)
run("dynamic time axis", ["steps", batch, features], batch)
run("dynamic batch", [steps, "rows", features], "rows")
PYTHON
"$work/venv/bin/python" "$work/run.py" "$work" | tee "$work/seen"
diff "$work/seen" - <<'SEEN'
fixed shapes: equal
dynamic time axis: differs
dynamic batch: differs
SEEN
