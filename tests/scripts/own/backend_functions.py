import numpy as np


def show(name, value):
    if isinstance(value, (list, tuple)):
        for n, part in enumerate(value):
            show(f"{name}[{n}]", part)
        return
    flat = np.asarray(value, "float64").ravel()
    shown = flat if flat.size < 13 else [*flat[:12], flat.sum(), np.abs(flat).sum()]
    print("=", name, *(f"{v:.7g}" for v in shown))


import tensorflow as tf
from tensorflow import keras

K = tf.keras.backend
x = tf.constant(np.arange(24, dtype="float32").reshape(2, 4, 3) / 10)
mask = tf.constant(np.array([[1, 1, 0, 1], [0, 1, 1, 0]], bool))


def step(x, states):
    h, count, factor = states
    h = K.tanh(x + h * factor)
    return h, [h, count + 1.0]


starts, factor = [tf.zeros((2, 3)), tf.zeros((2, 1))], [tf.ones((2, 3)) * 0.5]
for name, options in {
    "plain": {},
    "backwards": {"go_backwards": True},
    "masked": {"mask": mask},
    "masked backwards": {"mask": mask, "go_backwards": True},
    "masked zeros": {"mask": mask, "zero_output_for_mask": True},
    "last": {"return_all_outputs": False},
}.items():
    found = K.rnn(step, x, starts, constants=factor, **options)
    show(f"rnn {name}".replace(" ", "_"), [*found[:2], *found[2]])
    print("=", "shapes", *found[1].shape, *(size for state in found[2] for size in state.shape))
found = K.rnn(step, tf.transpose(x, (1, 0, 2)), starts, constants=factor, time_major=True)
show("rnn_time_major", [*found[:2], *found[2]])

weight = tf.Variable(np.full((3,), 0.3, "float32"))
with tf.GradientTape() as tape:
    last, every, _ = K.rnn(lambda x, s: (x * weight + s[0], [x * weight + s[0]]), x, [tf.zeros((2, 3))], mask=mask)
    loss = K.sum(every * every)
show("rnn_gradient", tape.gradient(loss, weight))

show("foldl", K.foldl(lambda a, b: a * 0.5 + b, x))
show("foldl_from", K.foldl(lambda a, b: a * 0.5 + b, x, initializer=tf.ones((4, 3))))
show("foldr", K.foldr(lambda a, b: a * 0.5 + b, x))
show("map_fn", K.map_fn(lambda a: a * 2, x))
show("arange", [K.arange(5), K.arange(1, 7, 2)])
v = K.variable(np.ones((2, 2)))
K.batch_set_value([(v, np.full((2, 2), 3.0))])
show("values", K.batch_get_value([v]))
show("count", K.count_params(v))
print("=", "dtypes", K.dtype(v), K.dtype(x))
print("=", "uid", K.get_uid("own"), K.get_uid("own"), K.get_uid("other"))
show("bias_add", K.bias_add(x, tf.constant([1.0, 2.0, 3.0])))
show("temporal_padding", K.temporal_padding(x, (2, 1)))
show("batch_normalization", K.batch_normalization(x, tf.zeros(3), tf.ones(3), tf.ones(3), tf.ones(3) * 2))
K.moving_average_update(v, np.zeros((2, 2), "float32"), 0.9)
show("moving_average", K.get_value(v))
show("in_top_k", K.in_top_k(tf.constant([[0.1, 0.9, 0.3], [0.5, 0.2, 0.3]]), tf.constant([2, 1]), 2))
print("=", "kinds", K.is_keras_tensor(keras.Input((2,))), K.is_sparse(x))
print("=", "shapes", *K.random_bernoulli((2, 3), 0.5).shape, *K.random_normal_variable((2, 3), 0, 1).shape)
print("=", "shapes", *K.random_uniform_variable((4, 3), 0, 1).shape)
with K.name_scope("steps"), keras.name_scope("more"):
    pass
keras.config.disable_traceback_filtering()
print("=", "filtering", keras.config.is_traceback_filtering_enabled())
keras.config.disable_flash_attention()
