import keras
import numpy as np
import tensorflow as tf


def show(name, value):
    flat = np.asarray(value, "float64").ravel()
    print("=", name, *(f"{v:.7g}" for v in flat))


rng = np.random.default_rng(0)
a = rng.uniform(0.1, 0.9, (3, 4)).astype("float32")
a /= a.sum(-1, keepdims=True)
b = rng.uniform(0.1, 0.9, (3, 4)).astype("float32")
weight = np.array([1.0, 0.5, 2.0], "float32")


class Squares(keras.losses.Loss):
    def call(self, y_true, y_pred):
        return tf.reduce_mean(tf.square(y_true * 2 - y_pred), axis=-1)


objects = {
    "mse": keras.losses.MeanSquaredError(),
    "mae": keras.losses.MeanAbsoluteError(),
    "mape": keras.losses.MeanAbsolutePercentageError(),
    "huber": keras.losses.Huber(0.3),
    "log_cosh": keras.losses.LogCosh(),
    "kld": keras.losses.KLDivergence(),
    "poisson": keras.losses.Poisson(),
    "cosine": keras.losses.CosineSimilarity(),
    "bce": keras.losses.BinaryCrossentropy(),
    "bce_logits": keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=0.1),
    "cce": keras.losses.CategoricalCrossentropy(),
    "cce_logits": keras.losses.CategoricalCrossentropy(from_logits=True),
    "sum": keras.losses.MeanSquaredError(reduction="sum"),
    "own": Squares(),
}
for name, loss in objects.items():
    for options in ({}, {"sample_weight": weight}):
        t, p = tf.Variable(a), tf.Variable(b)
        with tf.GradientTape() as tape:
            value = loss(t * 1.0, p * 1.0, **options)
        found = tape.gradient(value, [t, p])
        show(f"{name}_{len(options)}", value)
        show(f"{name}_true", found[0])
        show(f"{name}_pred", found[1])
    t = tf.Variable(a)
    with tf.GradientTape() as tape:
        value = loss(t, b)
    show(f"{name}_true_alone", tape.gradient(value, t))

for name in (
    "mean_squared_error", "mean_absolute_error", "huber", "kl_divergence", "poisson",
    "cosine_similarity", "binary_crossentropy", "categorical_crossentropy",
):  # fmt: skip
    t, p = tf.Variable(a), tf.Variable(b)
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(getattr(keras.losses, name)(t, p) * weight)
    found = tape.gradient(value, [t, p])
    show(f"{name}_true", found[0])
    show(f"{name}_pred", found[1])
