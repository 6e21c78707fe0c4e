"""tf.keras as its guide says: `fit`, `predict`, and for one sample `model(x)` as a graph."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["KERAS_BACKEND"] = "tensorflow"

import keras  # noqa: E402
import tensorflow as tf  # noqa: E402

from peers.keras_api import KerasModel  # noqa: E402


class Keras(KerasModel):
    api = keras
    version = f"{keras.__version__} on TensorFlow {tf.__version__}"

    def __init__(self, workload, threads):
        keras.backend.clear_session()
        super().__init__(workload, threads)

    def compiled(self, model):
        return tf.function(lambda x: model(x, training=False))

    def ready(self, x):
        return tf.constant(x)
