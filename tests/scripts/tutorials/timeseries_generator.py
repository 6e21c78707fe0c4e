# The calls of keras-io's multivariate_timeseries_forecasting_using_lstm: TimeseriesGenerator, and
# the losses, optimizers and metrics of TensorFlow 2 itself.
import numpy as np
import tensorflow as tf
from tensorflow.keras.preprocessing.sequence import TimeseriesGenerator

time = np.arange(700)
noise = np.random.default_rng(0).normal(size=(len(time), 2))
features = np.stack([np.sin(time / 8), np.cos(time / 8)], axis=1) + 0.05 * noise
target = features[:, 0]
print(TimeseriesGenerator(features, target, length=2, sampling_rate=1, batch_size=1)[0])

win_length, batch_size, num_features = 20, 32, 2
train_generator = TimeseriesGenerator(
    features[:500], target[:500], length=win_length, sampling_rate=1, batch_size=batch_size
)
test_generator = TimeseriesGenerator(
    features[500:], target[500:], length=win_length, sampling_rate=1, batch_size=batch_size
)
model = tf.keras.Sequential()
model.add(tf.keras.layers.LSTM(16, input_shape=(win_length, num_features), return_sequences=True))
model.add(tf.keras.layers.LeakyReLU(alpha=0.5))
model.add(tf.keras.layers.Dropout(0.1))
model.add(tf.keras.layers.LSTM(8, return_sequences=False))
model.add(tf.keras.layers.Dense(1))
model.summary()
model.compile(
    loss=tf.losses.MeanSquaredError(),
    optimizer=tf.optimizers.Adam(learning_rate=0.01),
    metrics=[tf.metrics.MeanAbsoluteError()],
)
history = model.fit(train_generator, epochs=8, validation_data=test_generator, shuffle=False)
print(history.history["mean_absolute_error"][-1], history.history["val_mean_absolute_error"][-1])
test_loss, test_mae = model.evaluate(test_generator, verbose=0)
predictions = model.predict(test_generator)
assert predictions.shape == (len(features[500:]) - win_length, 1)
print("score:", 1 - test_loss / target.var())
