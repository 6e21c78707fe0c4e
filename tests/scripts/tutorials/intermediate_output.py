# The calls of the Keras FAQ (keras.io/getting_started/faq): outputs of layers in the middle, frozen
# layers, several trainings in a row, saving.
import keras
import numpy as np
from keras import layers

model = keras.Sequential([
    keras.Input(shape=(6, 2)), layers.LSTM(8, return_sequences=True, name="seen"), layers.LSTM(8),
    layers.Dense(1, activation="sigmoid"),
])
model.compile(optimizer="adam", loss="binary_crossentropy", metrics=["accuracy"])
x = np.random.default_rng(0).normal(size=(200, 6, 2))
y = (x[:, :, 0].sum(axis=1) > 0).astype("float32")
intermediate = keras.Model(inputs=model.input, outputs=model.get_layer("seen").output)
features = intermediate.predict(x)
assert features.shape == (200, 6, 8)

model.get_layer("seen").trainable = False
model.compile(optimizer=keras.optimizers.Adam(0.02), loss="binary_crossentropy",
              metrics=["accuracy"])
early_stopping = keras.callbacks.EarlyStopping(monitor="val_loss", patience=10)
history = model.fit(x, y, validation_split=0.2, epochs=25, verbose=0, callbacks=[early_stopping])
assert np.array_equal(intermediate.predict(x), features)

model.save("my_model.keras")
del model
model = keras.models.load_model("my_model.keras")
again = keras.models.model_from_json(model.to_json())
again.set_weights(model.get_weights())
assert np.array_equal(again.predict(x), model.predict(x))
print("score:", max(history.history["val_accuracy"]))
