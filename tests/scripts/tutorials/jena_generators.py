# The calls of chapter 6.3 of "Deep Learning with Python" (2017): generators, recurrent dropout,
# stacked and bidirectional GRUs, and convolution before one.
import numpy as np
from keras import layers
from keras.models import Sequential
from keras.optimizers import RMSprop

float_data = np.random.default_rng(0).normal(0, 0.1, (900, 3)).cumsum(axis=0)
float_data -= float_data.mean(axis=0)
float_data /= float_data.std(axis=0)
lookback, delay, step = 24, 2, 2


def generator(data, min_index, max_index, batch_size=32):
    i = min_index + lookback
    while 1:
        if i + batch_size >= max_index:
            i = min_index + lookback
        rows = np.arange(i, min(i + batch_size, max_index))
        i += len(rows)
        samples = np.zeros((len(rows), lookback // step, data.shape[-1]))
        targets = np.zeros((len(rows),))
        for j, row in enumerate(rows):
            samples[j] = data[range(rows[j] - lookback, rows[j], step)]
            targets[j] = data[rows[j] + delay][1]
        yield samples, targets


shape = (None, float_data.shape[-1])
regularized = Sequential()
regularized.add(layers.GRU(16, dropout=0.1, recurrent_dropout=0.1, return_sequences=True,
                           input_shape=shape))
regularized.add(layers.GRU(16, activation='relu', dropout=0.1, recurrent_dropout=0.1))
bidirectional = Sequential()
bidirectional.add(layers.Bidirectional(layers.GRU(16), input_shape=shape))
convolved = Sequential()
convolved.add(layers.Conv1D(16, 3, activation='relu', input_shape=shape))
convolved.add(layers.MaxPooling1D(2))
convolved.add(layers.GRU(16))
flat = Sequential()
flat.add(layers.Flatten(input_shape=(lookback // step, float_data.shape[-1])))
flat.add(layers.Dense(32, activation='relu'))
worst = 0
for model in (regularized, bidirectional, convolved, flat):
    model.add(layers.Dense(1))
    model.compile(optimizer=RMSprop(), loss='mae')
    history = model.fit_generator(generator(float_data, 0, 600), steps_per_epoch=20, epochs=12,
                                  validation_data=generator(float_data, 600, 890),
                                  validation_steps=6, verbose=0)
    loss, val_loss = history.history['loss'], history.history['val_loss']
    print(loss[-1], val_loss[-1])
    worst = max(worst, min(loss))
print('score:', 1 - worst)
