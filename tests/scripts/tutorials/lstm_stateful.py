# The calls of Keras 2's example lstm_stateful: running means, with and without memory of the batch
# before.
from __future__ import print_function

import numpy as np
import pandas as pd
from keras.layers import LSTM, Dense
from keras.models import Sequential

input_len, tsteps, lahead, batch_size, epochs = 400, 2, 1, 1, 5
drop = tsteps - 1
np.random.seed(1986)
x_input = pd.DataFrame(np.random.uniform(-0.1, 0.1, input_len + drop))
expected_output = x_input.rolling(window=tsteps, center=False).mean()[drop:]
data_input = x_input.values[drop:]


def create_model(stateful):
    model = Sequential()
    model.add(LSTM(20, input_shape=(lahead, 1), batch_size=batch_size, stateful=stateful))
    model.add(Dense(1))
    model.compile(loss='mse', optimizer='adam')
    return model


def split_data(x, y, ratio=0.8):
    to_train = int(input_len * ratio)
    to_train -= to_train % batch_size
    x_train, y_train = x[:to_train].reshape((-1, lahead, 1)), y.values[:to_train].reshape((-1, 1))
    x_test, y_test = x[to_train:].reshape((-1, lahead, 1)), y.values[to_train:].reshape((-1, 1))
    return (x_train, y_train), (x_test, y_test)


(x_train, y_train), (x_test, y_test) = split_data(data_input, expected_output)
print('x_train.shape: ', x_train.shape)
model_stateful = create_model(stateful=True)
for i in range(epochs):
    print('Epoch', i + 1, '/', epochs)
    model_stateful.fit(x_train, y_train, batch_size=batch_size, epochs=1, verbose=1,
                       validation_data=(x_test, y_test), shuffle=False)
    model_stateful.reset_states()
predicted_stateful = model_stateful.predict(x_test, batch_size=batch_size)

model_stateless = create_model(stateful=False)
model_stateless.fit(x_train, y_train, batch_size=batch_size, epochs=epochs, verbose=1,
                    validation_data=(x_test, y_test), shuffle=False)
predicted_stateless = model_stateless.predict(x_test, batch_size=batch_size)
errors = [((y_test - p) ** 2)[tsteps - 1:].mean() for p in (predicted_stateful, predicted_stateless)]
print('score:', 1 - errors[0] / errors[1])
