"""ONNX Runtime: one session, all graph optimizations, as many threads as cores (its default)."""

import onnxruntime

from peers.onnx_graph import Graph


class OnnxRuntime(Graph):
    version = onnxruntime.__version__

    def load(self, model, shapes, threads):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        names = [*shapes[0]]

        def call(xs):
            return session.run(None, dict(zip(names, xs, strict=True)))

        return [call] * len(shapes)
