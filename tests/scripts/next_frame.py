# Made-up videos of moving squares, as of keras.io/examples/vision/conv_lstm: the next frame of each.
import os

import keras
import numpy as np
from keras import layers

keras.utils.set_random_seed(1)
rng = np.random.default_rng(1)

num_frames, size = 8, 8


def make_movies(count):
    movies = np.zeros((count, num_frames + 1, size, size, 1), "float32")
    for movie in movies:
        for _ in range(rng.integers(1, 3)):
            row, column = rng.integers(0, size, 2)
            down, across = rng.integers(-1, 2, 2)
            for t, frame in enumerate(movie):
                rows = (row + down * t + np.arange(2)) % size
                columns = (column + across * t + np.arange(2)) % size
                frame[np.ix_(rows, columns)] = 1
    return movies[:, :-1], movies[:, 1:]


x_train, y_train = make_movies(160)
x_val, y_val = make_movies(32)

inp = layers.Input(shape=(None, *x_train.shape[2:]))
x = layers.ConvLSTM2D(
    filters=10,
    kernel_size=(5, 5),
    padding="same",
    return_sequences=True,
    activation="relu",
)(inp)
x = layers.BatchNormalization()(x)
x = layers.ConvLSTM2D(
    filters=8,
    kernel_size=(3, 3),
    padding="same",
    return_sequences=True,
    activation="relu",
)(x)
x = layers.TimeDistributed(layers.Conv2D(1, 3, activation="sigmoid", padding="same"))(x)

model = keras.models.Model(inp, x)
model.compile(
    loss=keras.losses.binary_crossentropy,
    optimizer=keras.optimizers.Adam(learning_rate=0.01),
)
model.summary()

early_stopping = keras.callbacks.EarlyStopping(monitor="val_loss", patience=10)
reduce_lr = keras.callbacks.ReduceLROnPlateau(monitor="val_loss", patience=5)
start = model.evaluate(x_val, y_val, verbose=0)
model.fit(
    x_train,
    y_train,
    batch_size=4,
    epochs=10,
    validation_data=(x_val, y_val),
    callbacks=[early_stopping, reduce_lr],
)
loss = model.evaluate(x_val, y_val, verbose=0)

# As in the tutorial: the first frames, then what is predicted of predictions.
frames, wanted = x_val[:, :6], y_val[:, 5:]
for _ in range(3):
    new_prediction = model.predict(frames, verbose=0)
    frames = np.concatenate((frames, new_prediction[:, -1:].round()), axis=1)
right = (frames[:, 6:] == wanted).mean()
still = (x_val[:, 5:6] == wanted).mean()

model.save("next_frame.keras")
loaded = keras.models.load_model("next_frame.keras")
same = np.allclose(loaded.predict(x_val, verbose=0), model.predict(x_val, verbose=0), atol=1e-6)
print(f"loss: {start:.4f} {loss:.4f}, right: {still:.4f} {right:.4f}, same after loading: {same}")
os.remove("next_frame.keras")
