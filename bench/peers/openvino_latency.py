"""OpenVINO: static shapes, float32, the latency hint (one request at a time has all threads)."""

import openvino

from peers.onnx_graph import Graph


class OpenVino(Graph):
    version = openvino.__version__.split("-")[0]

    def load(self, model, shapes, threads):
        core = openvino.Core()
        options = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": threads,
        }
        calls = []
        for of_inputs in shapes:
            network = core.read_model(model)
            network.reshape(of_inputs)
            compiled = core.compile_model(network, "CPU", options)
            calls.append(_of_request(compiled.create_infer_request(), len(compiled.outputs)))
        return calls


def _of_request(request, count):
    shared = count == 1  # states come back as inputs, and must not lie where the next ones go

    def call(xs):
        found = request.infer(xs, share_inputs=True, share_outputs=shared)
        return [found[i] for i in range(count)]

    return call
