# The calls of "Text Generation With LSTM Recurrent Neural Networks in Python with Keras"
# (machinelearningmastery.com): a file of weights for every epoch that is better, read again.
import glob

import numpy
from keras.callbacks import ModelCheckpoint
from keras.layers import LSTM
from keras.layers import Dense
from keras.layers import Dropout
from keras.models import Sequential
from keras.utils import np_utils

raw_text = "the quick brown fox jumps over the lazy dog. " * 12
chars = sorted(list(set(raw_text)))
char_to_int = dict((c, i) for i, c in enumerate(chars))
int_to_char = dict((i, c) for i, c in enumerate(chars))
n_chars, n_vocab, seq_length = len(raw_text), len(chars), 10
dataX, dataY = [], []
for i in range(0, n_chars - seq_length, 1):
    dataX.append([char_to_int[char] for char in raw_text[i:i + seq_length]])
    dataY.append(char_to_int[raw_text[i + seq_length]])
n_patterns = len(dataX)
X = numpy.reshape(dataX, (n_patterns, seq_length, 1))
X = X / float(n_vocab)
y = np_utils.to_categorical(dataY)


def network():
    model = Sequential()
    model.add(LSTM(48, input_shape=(X.shape[1], X.shape[2]), return_sequences=True))
    model.add(Dropout(0.1))
    model.add(LSTM(48))
    model.add(Dense(y.shape[1], activation='softmax'))
    return model


model = network()
model.compile(loss='categorical_crossentropy', optimizer='adam')
model.optimizer.lr = 0.01
filepath = "weights-improvement-{epoch:02d}-{loss:.4f}.hdf5"
checkpoint = ModelCheckpoint(filepath, monitor='loss', verbose=1, save_best_only=True, mode='min')
history = model.fit(X, y, epochs=60, batch_size=32, callbacks=[checkpoint])

files = sorted(glob.glob("weights-improvement-*.hdf5"))
best = min(history.history['loss'])
assert files[-1].endswith(f"-{best:.4f}.hdf5")
model = network()
model.load_weights(files[-1])
model.compile(loss='categorical_crossentropy', optimizer='adam')
pattern = dataX[5]
generated = ""
for i in range(60):
    x = numpy.reshape(pattern, (1, len(pattern), 1))
    x = x / float(n_vocab)
    prediction = model.predict(x, verbose=0)
    index = numpy.argmax(prediction)
    generated += int_to_char[index]
    pattern.append(index)
    pattern = pattern[1:len(pattern)]
print(generated)
print("score:", numpy.mean([a == b for a, b in zip(generated, raw_text[15:])]))
