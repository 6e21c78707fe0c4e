# The calls of keras.io/examples/timeseries/timeseries_weather_forecasting on a made-up climate.
import os

import keras
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

step, past, future, batch_size = 2, 48, 6, 64
time = np.arange(3000)
noise = np.random.default_rng(0).normal(size=(2, len(time)))
df = pd.DataFrame({
    "Date Time": time,
    "p (mbar)": 990 + 5 * np.sin(time / 24) + 0.1 * noise[0],
    "T (degC)": 9 + 8 * np.cos(time / 12) + 0.1 * noise[1],
})

split = int(0.7 * len(df))
features = df[["p (mbar)", "T (degC)"]]
features.index = df["Date Time"]
values = features.values
values = (values - values[:split].mean(axis=0)) / values[:split].std(axis=0)
features = pd.DataFrame(values)
train_data, val_data = features.loc[0 : split - 1], features.loc[split:]

start, end = past + future, past + future + split
dataset_train = keras.preprocessing.timeseries_dataset_from_array(
    train_data[[0, 1]].values, features.iloc[start:end][[1]], sequence_length=past // step,
    sampling_rate=step, batch_size=batch_size,
)
x_end = len(val_data) - past - future
x_val = val_data.iloc[:x_end][[0, 1]].values
y_val = features.iloc[split + past + future :][[1]]
dataset_val = keras.preprocessing.timeseries_dataset_from_array(
    x_val, y_val, sequence_length=past // step, sampling_rate=step, batch_size=batch_size,
)
for batch in dataset_train.take(1):
    inputs, targets = batch
print("Input shape:", inputs.numpy().shape)
print("Target shape:", targets.numpy().shape)

inputs = keras.layers.Input(shape=(inputs.shape[1], inputs.shape[2]))
lstm_out = keras.layers.LSTM(16)(inputs)
outputs = keras.layers.Dense(1)(lstm_out)
model = keras.Model(inputs=inputs, outputs=outputs)
model.compile(optimizer=keras.optimizers.Adam(learning_rate=0.01), loss="mse")
model.summary()

path_checkpoint = "model_checkpoint.weights.h5"
es_callback = keras.callbacks.EarlyStopping(monitor="val_loss", min_delta=0, patience=5)
modelckpt_callback = keras.callbacks.ModelCheckpoint(
    monitor="val_loss", filepath=path_checkpoint, verbose=1, save_weights_only=True,
    save_best_only=True,
)
history = model.fit(
    dataset_train, epochs=4, validation_data=dataset_val,
    callbacks=[es_callback, modelckpt_callback],
)
model.load_weights(path_checkpoint)

loss, val_loss = history.history["loss"], history.history["val_loss"]
plt.figure()
plt.plot(range(len(loss)), loss, "b", label="Training loss")
plt.plot(range(len(loss)), val_loss, "r", label="Validation loss")
plt.legend()
plt.savefig("loss.png")

for x, y in dataset_val.take(2):
    history_part, true, forecast = x[0][:, 1].numpy(), y[0].numpy(), model.predict(x)[0]
    print(history_part.shape, true, forecast)
print(os.listdir("."))
print("score:", 1 - min(val_loss))
