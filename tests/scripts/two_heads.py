# A forecaster of two inputs and two heads: the sales of past days and what is known of a shop give
# the sales of the next three days, and whether they will rise.
import os

import numpy as np
from keras import Input, Model, callbacks, layers, metrics, models, optimizers, utils

utils.set_random_seed(3)

DAYS, AHEAD = 28, 3


def make_shops(count):
    rng = np.random.default_rng(count)
    level, swing = rng.uniform(0.5, 1.5, count), rng.uniform(0.1, 0.5, count)
    trend, phase = rng.normal(0, 0.02, count), rng.integers(0, 7, count)
    days = np.arange(DAYS + AHEAD)
    week = np.sin(2 * np.pi * (days + phase[:, None]) / 7)
    sales = level[:, None] + trend[:, None] * days + swing[:, None] * week
    sales += rng.normal(0, 0.02, sales.shape)
    x = {
        "history": sales[:, :DAYS, None].astype("float32"),
        "shop": np.stack([level, swing], axis=1).astype("float32"),
    }
    y = {
        "sales": sales[:, DAYS:].astype("float32"),
        "rises": (trend > 0).astype("float32")[:, None],
    }
    return x, y


x_train, y_train = make_shops(1500)
x_test, y_test = make_shops(300)

history = Input(shape=(DAYS, 1), name="history")
shop = Input(shape=(2,), name="shop")
x = layers.LSTM(32)(history)
s = layers.Dense(8, activation="relu")(shop)
joined = layers.Dropout(0.05)(layers.concatenate([x, s]))
sales = layers.Dense(AHEAD, name="sales")(joined)
rises = layers.Dense(1, activation="sigmoid", name="rises")(layers.Dense(16, "relu")(joined))
model = Model(inputs=[history, shop], outputs=[sales, rises], name="forecaster")
model.summary()

model.compile(
    optimizer=optimizers.Adam(learning_rate=0.005),
    loss={"sales": "mse", "rises": "binary_crossentropy"},
    loss_weights={"sales": 1.0, "rises": 0.2},
    metrics={"sales": ["mae", metrics.RootMeanSquaredError()], "rises": "accuracy"},
)
found = model.fit(
    x_train,
    y_train,
    batch_size=32,
    epochs=25,
    validation_split=0.2,
    verbose=2,
    callbacks=[
        callbacks.ModelCheckpoint(
            "forecaster.keras", monitor="val_rises_accuracy", mode="max", save_best_only=True
        ),
        callbacks.ReduceLROnPlateau(monitor="val_sales_loss", mode="min", patience=3, factor=0.5),
        callbacks.EarlyStopping(
            monitor="val_sales_loss", mode="min", patience=6, restore_best_weights=True
        ),
        callbacks.CSVLogger("log.csv"),
    ],
).history
print("history:", *sorted(found))

results = model.evaluate(x_test, y_test, return_dict=True, verbose=0)
print("results:", *sorted(results))
as_list = model.evaluate(list(x_test.values()), list(y_test.values()), verbose=0)
predicted, chances = model.predict(x_test, verbose=0)
mae = np.abs(predicted - y_test["sales"]).mean()
accuracy = np.mean((chances > 0.5) == y_test["rises"])
assert np.isclose(mae, results["sales_mae"], rtol=1e-4)
assert np.isclose(accuracy, results["rises_accuracy"])
assert np.isclose(as_list[0], results["loss"]) and len(as_list) == len(results)

best = models.load_model("forecaster.keras")
value = best.evaluate(x_train, y_train, return_dict=True, verbose=0)["rises_accuracy"]
assert value > 0.8, value
with open("log.csv") as file:
    assert set(file.readline().strip().split(",")) == {"epoch", *found}
for name in ("forecaster.keras", "log.csv"):
    os.remove(name)

spread = np.abs(y_test["sales"] - y_test["sales"].mean(axis=0)).mean()
print("score:", min(1 - mae / spread, accuracy))
