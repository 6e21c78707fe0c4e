"""The engines that are compared. A peer is made from (workload, threads) and offers some of:

train()    one pass over the workload's batches, an update after each; returns the mean loss
predict()  the outputs of one batch
one()      the output of one sample, by the fastest documented call

on data that are ready in the form it takes."""

import importlib

PEERS = {
    "fastrnn": ("ours", "Fastrnn"),
    "tf.keras": ("tf_keras", "Keras"),
    "PyTorch": ("pytorch", "PyTorch"),
    "PyTorch ftz": ("pytorch", "PyTorchFlushed"),
    "ONNX Runtime": ("onnx_runtime", "OnnxRuntime"),
    "OpenVINO": ("openvino_latency", "OpenVino"),
    "JAX": ("jax_scan", "Jax"),
    "sgemm": ("sgemm", "Sgemm"),
}


def load(name):
    """The class of a peer; ImportError where it is not installed."""
    module, cls = PEERS[name]
    return getattr(importlib.import_module(f"peers.{module}"), cls)
