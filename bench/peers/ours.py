"""fastrnn: `fit`, `predict`, and the call for one sample."""

import fastrnn
from peers.keras_api import KerasModel


class Fastrnn(KerasModel):
    api = fastrnn
    version = f"{fastrnn.__version__} ({fastrnn.isa()})"

    def __init__(self, workload, threads):
        fastrnn.set_num_threads(threads)
        super().__init__(workload, threads)

    def compiled(self, model):
        return model.compile_inference()

    def ready(self, x):
        return x
