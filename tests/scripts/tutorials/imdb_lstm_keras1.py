# The calls of Keras 1's examples imdb_lstm and lstm_benchmark; accuracy is "acc" in the history.
from __future__ import print_function
import numpy as np
np.random.seed(1337)

from keras.preprocessing import sequence
from keras.models import Sequential
from keras.layers import Dense, Activation, Embedding
from keras.layers import LSTM
from keras.datasets import imdb

max_features, maxlen = 100, 80
(x_train, y_train), (x_test, y_test) = imdb.load_data(nb_words=max_features)
print(len(x_train), 'train sequences')
x_train = sequence.pad_sequences(x_train, maxlen=maxlen)
x_test = sequence.pad_sequences(x_test, maxlen=maxlen)
print('x_train shape:', x_train.shape)

best = 0
for mode in ['cpu', 'mem', 'gpu']:
    model = Sequential()
    model.add(Embedding(max_features, 16, input_length=maxlen, dropout=0.2))
    model.add(LSTM(16, dropout_W=0.2, dropout_U=0.2, consume_less=mode))
    model.add(Dense(1))
    model.add(Activation('sigmoid'))
    model.compile(loss='binary_crossentropy', optimizer='adam', metrics=['accuracy'])
    result = model.fit(x_train, y_train, batch_size=4, nb_epoch=15,
                       validation_data=(x_test, y_test))
    assert result.epoch == list(range(15))
    best = max(best, *result.history['val_acc'])
score, acc = model.evaluate(x_test, y_test, batch_size=32)
print('Test score:', score)
print('Test accuracy:', acc)
print('score:', best)
