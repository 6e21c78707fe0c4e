# The calls of keras.io/guides/working_with_rnns and understanding_masking_and_padding that are on
# one chain of layers.
import keras
import numpy as np
from keras import layers

model = keras.Sequential()
model.add(layers.Embedding(input_dim=1000, output_dim=64))
model.add(layers.GRU(256, return_sequences=True))
model.add(layers.SimpleRNN(128))
model.add(layers.Dense(10))
model.summary()

model = keras.Sequential()
model.add(keras.Input(shape=(5, 10)))
model.add(layers.Bidirectional(layers.LSTM(64, return_sequences=True)))
model.add(layers.Bidirectional(layers.LSTM(32)))
model.add(layers.Dense(10))
model.summary()

paragraph1 = np.random.random((20, 10, 50)).astype(np.float32)
paragraph2 = np.random.random((20, 10, 50)).astype(np.float32)
lstm_layer = layers.LSTM(64, stateful=True)
first = lstm_layer(paragraph1)
output = lstm_layer(paragraph2)
lstm_layer.reset_states()
assert np.array_equal(lstm_layer(paragraph1), first) and not np.array_equal(output, first)
encoder_output, state_h, state_c = layers.LSTM(64, return_state=True, name="encoder")(paragraph1)
decoder_output = layers.LSTM(64, name="decoder")(paragraph2, initial_state=[state_h, state_c])

raw_inputs = [[711, 632, 71], [73, 8, 3215, 55, 927], [83, 91, 1, 645, 1253, 927]]
padded_inputs = keras.utils.pad_sequences(raw_inputs, padding="post")
embedding = layers.Embedding(input_dim=5000, output_dim=16, mask_zero=True)
masked_output = embedding(padded_inputs)
mask = embedding.compute_mask(padded_inputs)
lstm = layers.LSTM(32)
masked = lstm(masked_output, mask=mask)
assert np.allclose(masked[0], lstm(masked_output[:1, :3])[0], atol=1e-5)

inputs = keras.Input(shape=(None,), dtype="int32")
x = layers.Embedding(input_dim=5000, output_dim=16, mask_zero=True)(inputs)
outputs = layers.LSTM(32)(x)
model = keras.Model(inputs, outputs)
model.layers[0].set_weights(embedding.get_weights())
model.layers[1].set_weights(lstm.get_weights())
assert np.allclose(model.predict(padded_inputs), masked, atol=1e-5)

rng = np.random.default_rng(0)
x_train = rng.random((256, 28, 28)).astype("float32") * 0.2
y_train = rng.integers(0, 10, 256)
x_train[np.arange(256), :, 2 * y_train + 4] += 0.8
model = keras.models.Sequential([
    keras.Input(shape=(None, 28)), layers.LSTM(64), layers.BatchNormalization(), layers.Dense(10),
])
model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True), optimizer="sgd",
              metrics=["accuracy"])
history = model.fit(x_train, y_train, validation_data=(x_train, y_train), batch_size=16, epochs=8)
print("score:", history.history["val_accuracy"][-1])
