# The calls of Keras 2's example reuters_mlp, on texts of our own.
from __future__ import print_function

import keras
import numpy as np
from keras.layers import Activation, Dense, Dropout
from keras.models import Sequential
from keras.preprocessing.text import Tokenizer

max_words, batch_size, epochs = 50, 4, 30
topics = ['grain wheat harvest tonnes', 'oil barrel crude refinery', 'bank rate interest loan']
rng = np.random.default_rng(0)
labels = rng.integers(0, 3, 60)
texts = [' '.join(rng.choice(topics[k].split() + ['the', 'of', 'said'], 6)) for k in labels]

tokenizer = Tokenizer(num_words=max_words)
tokenizer.fit_on_texts(texts)
sequences = tokenizer.texts_to_sequences(texts)
x_train = tokenizer.sequences_to_matrix(sequences, mode='binary')
num_classes = np.max(labels) + 1
y_train = keras.utils.to_categorical(labels, num_classes)

model = Sequential()
model.add(Dense(64, input_shape=(max_words,)))
model.add(Activation('relu'))
model.add(Dropout(0.5))
model.add(Dense(num_classes))
model.add(Activation('softmax'))
model.compile(loss='categorical_crossentropy', optimizer='adam', metrics=['accuracy'])
history = model.fit(x_train, y_train, batch_size=batch_size, epochs=epochs, verbose=1,
                    validation_split=0.1)
score = model.evaluate(x_train, y_train, batch_size=batch_size, verbose=1)
print('Test score:', score[0])
print('score:', score[1])
