# Made-up videos, which of four ways does the square move: a CNN for each frame below an LSTM.
import os

import numpy as np
import keras
from keras import layers

keras.utils.set_random_seed(812)

num_frames, size, num_classes = 8, 16, 4


def make_videos(count):
    rng = np.random.default_rng(count)
    videos = rng.random((count, num_frames, size, size, 1)) * 0.3
    labels = rng.integers(0, num_classes, count)
    for video, label in zip(videos, labels):
        row, column = rng.integers(4, 9, 2)
        dy, dx = [(0, 1), (0, -1), (1, 0), (-1, 0)][label]
        for t, frame in enumerate(video):
            i, j = (row + dy * t) % (size - 2), (column + dx * t) % (size - 2)
            frame[i : i + 3, j : j + 3] += 0.7
    return (255 * videos).astype("uint8"), labels


x_train, y_train = make_videos(400)
x_test, y_test = make_videos(100)

cnn = keras.Sequential(
    [
        keras.Input(shape=(size, size, 1)),
        layers.Rescaling(1.0 / 255),
        layers.ZeroPadding2D(padding=(1, 1)),
        layers.Conv2D(8, kernel_size=(3, 3), activation="relu"),
        layers.MaxPooling2D(pool_size=(2, 2)),
        layers.Conv2D(16, 3, padding="same", use_bias=False),
        layers.BatchNormalization(),
        layers.Activation("relu"),
        layers.AveragePooling2D(2),
        layers.SpatialDropout2D(0.05),
        layers.Flatten(),
        layers.Dense(24, activation="relu"),
    ],
    name="cnn",
)
cnn.summary()

inputs = keras.Input(shape=(num_frames, size, size, 1))
x = layers.TimeDistributed(cnn)(inputs)
x = layers.LSTM(32)(x)
x = layers.Dropout(0.1)(x)
outputs = layers.Dense(num_classes, activation="softmax")(x)
model = keras.Model(inputs, outputs, name="cnn_lstm")
model.summary()

model.compile(
    loss="sparse_categorical_crossentropy",
    optimizer=keras.optimizers.Adam(learning_rate=0.01),
    metrics=["accuracy"],
)
model.fit(x_train, y_train, batch_size=32, epochs=5, validation_data=(x_test, y_test))

loss, accuracy = model.evaluate(x_test, y_test, verbose=0)
model.save("videos.keras")
loaded = keras.models.load_model("videos.keras")
same = np.allclose(loaded.predict(x_test, verbose=0), model.predict(x_test, verbose=0))
print(f"Test accuracy: {accuracy:.3f}, the same after loading: {same}")
os.remove("videos.keras")
