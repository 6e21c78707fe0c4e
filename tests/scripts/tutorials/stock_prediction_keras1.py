# The calls of "LSTM Neural Network for Time Series Prediction" (Jakob Aungiers) in its first version,
# for Keras 1, and of its later one: fit_generator, and a file for the model.
import numpy as np
from keras.callbacks import EarlyStopping, ModelCheckpoint
from keras.layers.core import Dense, Activation, Dropout
from keras.layers.recurrent import LSTM
from keras.models import Sequential, load_model

wave = np.sin(np.arange(600) / 9)
windows = np.array([wave[i:i + 21] for i in range(len(wave) - 21)])
x, y = windows[:, :-1, None], windows[:, -1]

layers = [1, 20, 30, 1]
model = Sequential()
model.add(LSTM(input_dim=layers[0], output_dim=layers[1], return_sequences=True))
model.add(Dropout(0.1))
model.add(LSTM(layers[2], return_sequences=False))
model.add(Dropout(0.1))
model.add(Dense(output_dim=layers[3]))
model.add(Activation("linear"))
model.compile(loss="mse", optimizer="rmsprop")
model.fit(x, y, batch_size=32, nb_epoch=5, validation_split=0.05)
predicted = model.predict(x)
predicted = np.reshape(predicted, (predicted.size,))


def batches():
    while True:
        for i in range(0, len(x), 50):
            yield x[i:i + 50], y[i:i + 50]


callbacks = [ModelCheckpoint(filepath="model.h5", monitor='loss', save_best_only=True),
             EarlyStopping(monitor='loss', patience=2)]
model.fit_generator(batches(), steps_per_epoch=12, epochs=10, callbacks=callbacks, workers=1)
model = load_model("model.h5")
frame, walked = x[0], []
for i in range(20):
    walked.append(model.predict(frame[np.newaxis, :, :])[0, 0])
    frame = frame[1:]
    frame = np.insert(frame, [len(frame)], walked[-1], axis=0)
print(walked)
print("score:", 1 - np.mean((model.predict(x)[:, 0] - y) ** 2) / y.var())
