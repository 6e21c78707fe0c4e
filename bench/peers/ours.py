"""fastrnn: `fit`, `predict`, and the call for one sample."""

import fastrnn
from peers.keras_api import KerasModel


class Fastrnn(KerasModel):
    api = fastrnn
    version = f"{fastrnn.__version__} ({fastrnn.isa()})"

    def __init__(self, workload, threads):
        fastrnn.set_num_threads(threads)
        super().__init__(workload, threads)
        self.one_sample = self.x[:1]
        if hasattr(self.model, "compile_inference"):
            self.call = self.model.compile_inference()
        else:
            self.call = self.model.predict_on_batch

    def one(self):
        return self.call(self.one_sample)
