# The calls of Keras 2's example mnist_hierarchical_rnn: an LSTM over the codes of rows.
from __future__ import print_function

import keras
from keras.datasets import mnist
from keras.layers import LSTM, Dense, Input, TimeDistributed
from keras.models import Model

batch_size, num_classes, epochs = 32, 10, 4
row_hidden, col_hidden = 16, 16

(x_train, y_train), (x_test, y_test) = mnist.load_data()
x_train, y_train = x_train[:1500], y_train[:1500]
x_train = x_train.reshape(x_train.shape[0], 28, 28, 1).astype('float32') / 255
x_test = x_test.reshape(x_test.shape[0], 28, 28, 1).astype('float32') / 255
y_train = keras.utils.to_categorical(y_train, num_classes)
y_test = keras.utils.to_categorical(y_test, num_classes)

row, col, pixel = x_train.shape[1:]
x = Input(shape=(row, col, pixel))
encoded_rows = TimeDistributed(LSTM(row_hidden))(x)
encoded_columns = LSTM(col_hidden)(encoded_rows)
prediction = Dense(num_classes, activation='softmax')(encoded_columns)
model = Model(x, prediction)
model.compile(loss='categorical_crossentropy', optimizer=keras.optimizers.Adam(0.01),
              metrics=['accuracy'])
model.fit(x_train, y_train, batch_size=batch_size, epochs=epochs, verbose=1,
          validation_data=(x_test, y_test))
scores = model.evaluate(x_test, y_test, verbose=0)
print('Test loss:', scores[0])
print('score:', scores[1])
