# A CNN-LSTM whose layers are each below a TimeDistributed, in a Sequential and as a graph with a
# second way past the LSTM: does a spot grow or shrink, and how bright is it?
import keras
import numpy as np
from keras.layers import (
    LSTM,
    BatchNormalization,
    Concatenate,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAveragePooling1D,
    GlobalAveragePooling2D,
    Input,
    MaxPooling2D,
    TimeDistributed,
)
from keras.models import Model, Sequential

keras.utils.set_random_seed(2)

FRAMES, SIZE = 6, 12


def make_videos(count):
    rng = np.random.default_rng(count)
    videos = rng.normal(0, 0.1, (count, FRAMES, SIZE, SIZE, 1))
    grows, bright = rng.integers(0, 2, count), rng.uniform(0.5, 1.5, count)
    y, x = np.mgrid[:SIZE, :SIZE]
    for video, up, light in zip(videos, grows, bright):
        row, column = rng.uniform(4, 8, 2)
        radii = np.linspace(1, 3.5, FRAMES)
        for frame, radius in zip(video, radii if up else radii[::-1]):
            frame[np.hypot(y - row, x - column) < radius] += light
    return videos.astype("float32"), grows, bright.astype("float32")


x_train, grows, bright = make_videos(400)
x_test, test_grows, test_bright = make_videos(100)

model = Sequential()
model.add(Input(shape=(FRAMES, SIZE, SIZE, 1)))
model.add(TimeDistributed(Conv2D(6, (3, 3), activation="relu", padding="same")))
model.add(TimeDistributed(MaxPooling2D((2, 2), strides=(2, 2))))
model.add(TimeDistributed(Conv2D(8, (3, 3), activation="relu")))
model.add(TimeDistributed(Dropout(0.1)))
model.add(TimeDistributed(Flatten()))
model.add(LSTM(24))
model.add(Dense(2, activation="softmax"))
model.summary()
model.compile(
    loss="categorical_crossentropy", optimizer=keras.optimizers.Adam(0.003), metrics=["accuracy"]
)
model.fit(x_train, keras.utils.to_categorical(grows), batch_size=16, epochs=6, verbose=2)
chain = model.evaluate(x_test, keras.utils.to_categorical(test_grows), verbose=0)[1]
print("the chain:", chain)

videos = Input(shape=(None, SIZE, SIZE, 1), name="videos")
x = TimeDistributed(Conv2D(6, 3, padding="same", use_bias=False))(videos)
x = TimeDistributed(BatchNormalization())(x)
x = TimeDistributed(keras.layers.Activation("relu"))(x)
x = TimeDistributed(MaxPooling2D(2))(x)
frames = TimeDistributed(GlobalAveragePooling2D(), name="frames")(x)
moves = LSTM(16, name="moves")(frames)
still = GlobalAveragePooling1D(name="still")(frames)
joined = Concatenate()([moves, still])
outputs = [Dense(1, activation="sigmoid", name="grows")(joined), Dense(1, name="bright")(joined)]
model = Model(videos, outputs)
model.compile(
    keras.optimizers.Adam(0.02),
    loss=["binary_crossentropy", "mae"],
    metrics=[["accuracy"], ["mae"]],
)
model.fit(x_train, [grows, bright], batch_size=16, epochs=15, verbose=2)
results = model.evaluate(x_test, [test_grows, test_bright], return_dict=True, verbose=0)
print(results)
assert model.predict(x_test[:, :4], verbose=0)[0].shape == (100, 1)  # of fewer frames
error = results["bright_mae"] / np.abs(test_bright - test_bright.mean()).mean()
print("score:", min(chain, results["grows_accuracy"], 1 - error / 5))
