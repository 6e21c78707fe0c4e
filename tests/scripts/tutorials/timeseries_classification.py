# The calls of keras-io's lstm_vs_cnn_timeseries_classification.
import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import layers

rng = np.random.default_rng(0)
y_train, y_test = rng.choice([-1, 1], 300), rng.choice([-1, 1], 100)
x_train, x_test = (
    np.sin(np.arange(40) * np.where(y == 1, 0.5, 0.8)[:, None]) + rng.normal(0, 0.3, (len(y), 40))
    for y in (y_train, y_test)
)
x_train = x_train.reshape((x_train.shape[0], x_train.shape[1], 1))
x_test = x_test.reshape((x_test.shape[0], x_test.shape[1], 1))
y_train, y_test = np.where(y_train == -1, 0, y_train), np.where(y_test == -1, 0, y_test)
num_classes = len(np.unique(y_train))

lstm_model = keras.Sequential([
    layers.Input(shape=x_train.shape[1:]),
    layers.LSTM(16, return_sequences=True, dropout=0.1, recurrent_dropout=0.1),
    layers.LSTM(8, dropout=0.1, recurrent_dropout=0.1),
    layers.Dense(16, activation="relu"),
    layers.Dense(num_classes, activation="softmax"),
])
cnn_model = keras.Sequential([
    layers.Input(shape=x_train.shape[1:]),
    layers.Conv1D(filters=16, kernel_size=7, padding="same", activation="relu"),
    layers.BatchNormalization(),
    layers.MaxPooling1D(pool_size=2),
    layers.Dropout(0.3),
    layers.Conv1D(filters=32, kernel_size=5, padding="same", activation="relu"),
    layers.GlobalAveragePooling1D(),
    layers.Dense(num_classes, activation="softmax"),
])


def train_model(model, name):
    model.compile(
        optimizer="adam",
        loss="sparse_categorical_crossentropy",
        metrics=["sparse_categorical_accuracy"],
    )
    history = model.fit(
        x_train, y_train, epochs=12, batch_size=32, validation_split=0.2, verbose=1,
        callbacks=[
            keras.callbacks.ModelCheckpoint(
                f"best_{name}_model.keras", save_best_only=True, monitor="val_loss"
            ),
            keras.callbacks.EarlyStopping(
                monitor="val_loss", patience=20, restore_best_weights=True
            ),
        ],
    )
    best_model = keras.models.load_model(f"best_{name}_model.keras")
    test_loss, test_acc = best_model.evaluate(x_test, y_test, verbose=0)
    assert np.allclose(test_loss, model.evaluate(x_test, y_test, verbose=0)[0], atol=1e-5)
    return history, test_acc


scores = []
for model, name in ((lstm_model, "LSTM"), (cnn_model, "CNN")):
    history, test_acc = train_model(model, name)
    plt.plot(history.history["sparse_categorical_accuracy"], label=f"{name} Train")
    plt.plot(history.history["val_sparse_categorical_accuracy"], label=f"{name} Val")
    scores.append(test_acc)
plt.legend()
plt.tight_layout()
print("score:", min(scores))
