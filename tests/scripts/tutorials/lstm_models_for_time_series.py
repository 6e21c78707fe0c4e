# The calls of "How to Develop LSTM Models for Time Series Forecasting" and "A Gentle Introduction to
# LSTM Autoencoders" (machinelearningmastery.com).
from numpy import array
from keras.models import Model, Sequential
from keras.layers import (
    LSTM, Bidirectional, Dense, Flatten, RepeatVector, TimeDistributed
)
from keras.layers.convolutional import Conv1D, MaxPooling1D
from keras.utils import plot_model


def split_sequence(sequence, n_in, n_out):
    n = len(sequence) - n_in - n_out + 1
    return (array([sequence[i:i + n_in] for i in range(n)]),
            array([sequence[i + n_in:i + n_in + n_out] for i in range(n)]))


raw_seq = [i / 100 for i in range(10, 100, 5)]
X, y = split_sequence(raw_seq, 4, 1)
X = X.reshape((X.shape[0], X.shape[1], 1))

vanilla = Sequential()
vanilla.add(LSTM(50, activation='relu', input_shape=(4, 1)))
vanilla.add(Dense(1))
stacked = Sequential()
stacked.add(LSTM(50, activation='relu', return_sequences=True, input_shape=(4, 1)))
stacked.add(LSTM(50, activation='relu'))
stacked.add(Dense(1))
both = Sequential()
both.add(Bidirectional(LSTM(50, activation='relu'), input_shape=(4, 1)))
both.add(Dense(1))
cnn = Sequential()
cnn.add(TimeDistributed(Conv1D(filters=64, kernel_size=1, activation='relu'),
                        input_shape=(None, 2, 1)))
cnn.add(TimeDistributed(MaxPooling1D(pool_size=2)))
cnn.add(TimeDistributed(Flatten()))
cnn.add(LSTM(50, activation='relu'))
cnn.add(Dense(1))
errors = []
for model in (vanilla, stacked, both, cnn):
    x = X.reshape((X.shape[0], 2, 2, 1)) if model is cnn else X
    model.compile(optimizer='adam', loss='mse')
    model.fit(x, y, epochs=200, verbose=0)
    yhat = model.predict(x[-1:], verbose=0)
    print(yhat)
    errors.append(abs(float(yhat[0, 0]) - y[-1, 0]))

X, y = split_sequence(raw_seq, 4, 2)
X, y = X.reshape((X.shape[0], 4, 1)), y.reshape((y.shape[0], 2, 1))
model = Sequential()
model.add(LSTM(50, activation='relu', input_shape=(4, 1)))
model.add(RepeatVector(2))
model.add(LSTM(50, activation='relu', return_sequences=True))
model.add(TimeDistributed(Dense(1)))
model.compile(optimizer='adam', loss='mse')
model.fit(X, y, epochs=200, verbose=0)
errors.append(abs(model.predict(X[-1:], verbose=0) - y[-1]).max())

sequence = array(raw_seq[:9]).reshape((1, 9, 1))
model = Sequential()
model.add(LSTM(50, activation='relu', input_shape=(9, 1)))
model.add(RepeatVector(9))
model.add(LSTM(50, activation='relu', return_sequences=True))
model.add(TimeDistributed(Dense(1)))
model.compile(optimizer='adam', loss='mse')
model.fit(sequence, sequence, epochs=200, verbose=0)
errors.append(abs(model.predict(sequence, verbose=0) - sequence).max())
model = Model(inputs=model.inputs, outputs=model.layers[0].output)
plot_model(model, show_shapes=True, to_file='lstm_encoder.png')
yhat = model.predict(sequence)
print(yhat.shape)
assert yhat.shape == (1, 50)
print(errors)
print('score:', 1 - max(errors))
