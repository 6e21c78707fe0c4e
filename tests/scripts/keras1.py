# The spellings of Keras 1.
from __future__ import print_function
import numpy as np
np.random.seed(1337)
from keras.callbacks import EarlyStopping
from keras.layers.core import Activation, Dense, Dropout
from keras.layers.embeddings import Embedding
from keras.layers.recurrent import LSTM
from keras.models import Sequential
from keras.optimizers import Adam
from keras.regularizers import l2
from keras.utils import np_utils

X = np.random.randint(1, 30, (240, 8))
Y = np_utils.to_categorical(X[:, -1] % 3, 3)

model = Sequential()
model.add(Embedding(30, 16, input_length=8, init='uniform'))
model.add(LSTM(output_dim=24, init='glorot_uniform', inner_init='orthogonal',
               forget_bias_init='one', inner_activation='hard_sigmoid', dropout_W=0.1,
               dropout_U=0.1, W_regularizer=l2(1e-5), consume_less='mem'))
model.add(Dropout(p=0.1))
model.add(Dense(output_dim=3, init='uniform'))
model.add(Activation('softmax'))
model.compile(loss='categorical_crossentropy', optimizer=Adam(lr=0.01), metrics=['accuracy'])
model.fit(X, Y, batch_size=16, nb_epoch=20, verbose=2, validation_split=0.2,
          callbacks=[EarlyStopping(patience=20)])

def batches():
    while 1:
        yield X[:40], Y[:40]

model.fit_generator(batches(), samples_per_epoch=80, nb_epoch=2, verbose=2)
score, acc = model.evaluate(X, Y, batch_size=16, verbose=0)
same = model.predict_classes(X, verbose=0) == model.predict_proba(X, verbose=0).argmax(1)
print('accuracy:', acc, 'same:', same.all())
