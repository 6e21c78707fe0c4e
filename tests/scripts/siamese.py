# A Siamese LSTM: do two recordings have the same sound? One encoder, called on both.
import os

import keras
import numpy as np
from keras import layers

keras.utils.set_random_seed(5)

SOUNDS, LENGTH = 4, 30


def make_pairs(count):
    """Recordings of 20 to 30 steps, each with a frequency of one of four; -1 is behind the end."""
    rng = np.random.default_rng(count)

    def recordings(sounds):
        frequency = 0.25 + 0.3 * sounds + rng.normal(0, 0.03, count)
        steps = np.arange(LENGTH)
        x = np.sin(frequency[:, None] * steps + rng.uniform(0, 6.3, count)[:, None])
        x += rng.normal(0, 0.1, x.shape)
        ends = rng.integers(20, LENGTH + 1, count)
        return np.where(steps < ends[:, None], x, -1)[..., None].astype("float32")

    one = rng.integers(0, SOUNDS, count)
    other = (one + rng.integers(1, SOUNDS, count)) % SOUNDS
    same = rng.integers(0, 2, count)
    return [recordings(one), recordings(np.where(same, one, other))], same


x_train, y_train = make_pairs(2000)
x_test, y_test = make_pairs(400)

recording = keras.Input(shape=(None, 1))
x = layers.Masking(mask_value=-1.0)(recording)
x = layers.Bidirectional(layers.LSTM(16))(x)
encoder = keras.Model(recording, layers.Dense(8, activation="tanh")(x), name="encoder")
encoder.summary()

left = keras.Input(shape=(None, 1), name="left")
right = keras.Input(shape=(None, 1), name="right")
left_code, right_code = encoder(left), encoder(right)
difference = layers.Subtract()([left_code, right_code])
distance = layers.Dot(axes=1)([difference, difference])
cosine = layers.Dot(axes=1, normalize=True)([left_code, right_code])
scores = layers.BatchNormalization()(layers.Concatenate()([distance, cosine]))
outputs = layers.Dense(1, activation="sigmoid", name="same")(scores)
model = keras.Model([left, right], outputs, name="siamese")
model.summary()
assert model.count_params() == encoder.count_params() + 2 * 4 + 3

model.compile(keras.optimizers.Adam(0.01), "binary_crossentropy", metrics=["accuracy"])
model.fit(
    x_train,
    y_train,
    validation_data=(x_test, y_test),
    epochs=8,
    batch_size=32,
    verbose=2,
    class_weight={0: 1.0, 1: 1.5},
)

# The encoder alone has learned what is alike; which of the two comes first makes no difference.
left_codes, right_codes = [encoder.predict(part, verbose=0) for part in x_test]
distances = np.linalg.norm(left_codes - right_codes, axis=1)
alike, apart = distances[y_test == 1].mean(), distances[y_test == 0].mean()
assert alike < 0.5 * apart, (alike, apart)
swapped = model.predict(x_test[::-1], verbose=0)
assert np.allclose(swapped, model.predict(x_test, verbose=0), atol=1e-5)

score = model.evaluate(x_test, y_test, verbose=0)[1]
model.save_weights("siamese.weights.h5")
model.set_weights([0 * weight for weight in model.get_weights()])
model.load_weights("siamese.weights.h5")
os.remove("siamese.weights.h5")
assert np.allclose(model.predict(x_test[::-1], verbose=0), swapped)
print("score:", score)
