"""ONNX Runtime: one session, all graph optimizations, as many threads as cores (its default)."""

import onnxruntime

from peers.onnx_graph import Graph


class OnnxRuntime(Graph):
    version = onnxruntime.__version__

    def load(self, model, threads):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"]
        )

    def predict(self):
        return self.session.run(None, {"x": self.batch})[0]

    def one(self):
        return self.session.run(None, {"x": self.one_sample})[0]
