# The pipeline of the time series courses' notebooks (sunspots), on a made-up series.
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf


def plot_series(time, series, format="-"):
    plt.plot(time, series, format)
    plt.xlabel("Time")


def trend(time, slope=0):
    return slope * time


def seasonality(time, period, amplitude=1, phase=0):
    season_time = ((time + phase) % period) / period
    pattern = np.where(season_time < 0.4, np.cos(season_time * 2 * np.pi), 1 / np.exp(3 * season_time))
    return amplitude * pattern


time = np.arange(600, dtype="float32")
noise = np.random.RandomState(42).randn(len(time)) * 0.05
series = trend(time, 0.001) + seasonality(time, period=30, amplitude=1) + noise
split_time = 500
time_train, x_train = time[:split_time], series[:split_time]
time_valid, x_valid = time[split_time:], series[split_time:]
window_size, batch_size, shuffle_buffer_size = 30, 32, 250


def windowed_dataset(series, window_size, batch_size, shuffle_buffer):
    series = tf.expand_dims(series, axis=-1)
    ds = tf.data.Dataset.from_tensor_slices(series)
    ds = ds.window(window_size + 1, shift=1, drop_remainder=True)
    ds = ds.flat_map(lambda w: w.batch(window_size + 1))
    ds = ds.shuffle(shuffle_buffer)
    ds = ds.map(lambda w: (w[:-1], w[-1]), num_parallel_calls=tf.data.AUTOTUNE)
    return ds.batch(batch_size).cache().prefetch(1)


def model_forecast(model, series, window_size):
    ds = tf.data.Dataset.from_tensor_slices(series)
    ds = ds.window(window_size, shift=1, drop_remainder=True)
    ds = ds.flat_map(lambda w: w.batch(window_size))
    ds = ds.batch(32).prefetch(1)
    return model.predict(ds, verbose=0)


for x, y in tf.data.Dataset.range(6).window(4, shift=1, drop_remainder=True).flat_map(
    lambda w: w.batch(4)
).map(lambda w: (w[:-1], w[-1:])).shuffle(buffer_size=10).batch(2).prefetch(1):
    print("x = ", x.numpy())
    print("y = ", y.numpy())

train_set = windowed_dataset(x_train, window_size, batch_size, shuffle_buffer_size)
valid_set = windowed_dataset(x_valid, window_size, batch_size, 1)
print(train_set.element_spec)
for inputs, targets in train_set.take(1):
    print(f"Shapes: {inputs.shape} {targets.shape} {inputs.dtype.name}")

model = tf.keras.models.Sequential([
    tf.keras.layers.Input((window_size, 1)),
    tf.keras.layers.Conv1D(filters=16, kernel_size=5, padding="causal", activation="relu"),
    tf.keras.layers.LSTM(16, return_sequences=True),
    tf.keras.layers.LSTM(16),
    tf.keras.layers.Dense(1),
])
model.compile(
    loss=tf.keras.losses.Huber(), optimizer=tf.keras.optimizers.Adam(learning_rate=0.01),
    metrics=["mae"],
)
history = model.fit(train_set, epochs=12, validation_data=valid_set, verbose=2)

forecast = model_forecast(model, series[:, np.newaxis], window_size)
results = forecast[split_time - window_size : -1, 0]
plt.figure(figsize=(10, 6))
plot_series(time_valid, x_valid)
plot_series(time_valid, results)
plt.savefig("forecast.png")
mae = float(np.mean(np.abs(results - x_valid)))
print(model.evaluate(valid_set, verbose=0, return_dict=True), history.history.keys())
print("score:", 1 - mae)
