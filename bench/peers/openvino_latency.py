"""OpenVINO: static shapes, float32, the latency hint (one request at a time has all threads)."""

import openvino

from peers.onnx_graph import Graph


class OpenVino(Graph):
    version = openvino.__version__.split("-")[0]

    def load(self, model, threads):
        core = openvino.Core()
        options = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": threads,
        }
        self.requests = []
        for x in (self.batch, self.one_sample):
            network = core.read_model(model)
            network.reshape(list(x.shape))
            self.requests.append(core.compile_model(network, "CPU", options).create_infer_request())

    def predict(self):
        return self._infer(0, self.batch)

    def one(self):
        return self._infer(1, self.one_sample)

    def _infer(self, which, x):
        return self.requests[which].infer([x], share_inputs=True, share_outputs=True)[0]
