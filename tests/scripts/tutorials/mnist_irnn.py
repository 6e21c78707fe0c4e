# The calls of Keras 2's example mnist_irnn, with columns in place of pixels as steps.
from __future__ import print_function

import keras
from keras import initializers
from keras.datasets import mnist
from keras.layers import Activation, Dense, SimpleRNN
from keras.models import Sequential
from keras.optimizers import RMSprop

batch_size, num_classes, epochs, hidden_units = 32, 10, 3, 50
learning_rate = 1e-3

(x_train, y_train), (x_test, y_test) = mnist.load_data()
x_train = x_train.transpose(0, 2, 1).astype('float32') / 255
x_test = x_test.transpose(0, 2, 1).astype('float32') / 255
y_train = keras.utils.to_categorical(y_train, num_classes)
y_test = keras.utils.to_categorical(y_test, num_classes)

print('Evaluate IRNN...')
model = Sequential()
model.add(SimpleRNN(hidden_units,
                    kernel_initializer=initializers.RandomNormal(stddev=0.001),
                    recurrent_initializer=initializers.Identity(gain=1.0),
                    activation='relu',
                    input_shape=x_train.shape[1:]))
model.add(Dense(num_classes))
model.add(Activation('softmax'))
rmsprop = RMSprop(learning_rate=learning_rate)
model.compile(loss='categorical_crossentropy', optimizer=rmsprop, metrics=['accuracy'])
model.fit(x_train, y_train, batch_size=batch_size, epochs=epochs, verbose=1,
          validation_data=(x_test, y_test))
scores = model.evaluate(x_test, y_test, verbose=0)
print('IRNN test score:', scores[0])
print('score:', scores[1])
