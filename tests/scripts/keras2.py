# The spellings of tf.keras 2.
import numpy as np
import tensorflow as tf
import tensorflow.keras.backend as K
from tensorflow.keras import callbacks, layers, optimizers
from tensorflow.keras.utils import Sequence


def rmse(y_true, y_pred):
    return K.sqrt(K.mean(K.square(y_pred - y_true), axis=-1))


class Data(Sequence):
    def __len__(self):
        return 10

    def __getitem__(self, index):
        x = np.random.rand(16, 5, 2).astype('float32')
        return x, x.sum((1, 2))


tf.random.set_seed(1)
K.clear_session()
model = tf.keras.Sequential([
    layers.InputLayer(input_shape=(5, 2)),
    layers.Masking(),
    layers.Bidirectional(layers.LSTM(8, return_sequences=True), merge_mode='sum'),
    layers.GRU(4, reset_after=False),
    layers.LeakyReLU(alpha=0.3),
    layers.Dense(1),
])
schedule = optimizers.schedules.ExponentialDecay(0.02, decay_steps=50, decay_rate=0.9)
model.compile(optimizer=optimizers.Adam(schedule), loss=tf.keras.losses.Huber(),
              metrics=[rmse, 'mae', tf.keras.metrics.MeanSquaredError(name='mse')])
history = model.fit(Data(), epochs=10, verbose=0,
                    callbacks=[callbacks.EarlyStopping(monitor='loss', patience=10)])
print(sorted(history.history))
print('rmse:', history.history['rmse'][0], history.history['rmse'][-1])
