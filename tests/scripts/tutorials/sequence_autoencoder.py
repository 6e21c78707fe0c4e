# The calls of "Building Autoencoders in Keras" (blog.keras.io), sequence to sequence: two models
# share layers.
import numpy as np
from keras.layers import LSTM, Input, RepeatVector, TimeDistributed, Dense
from keras.models import Model

timesteps, input_dim, latent_dim = 8, 1, 16
phase = np.random.default_rng(0).uniform(0, 6.28, (200, 1))
x = np.sin(phase + np.arange(timesteps))[..., None]

inputs = Input(shape=(timesteps, input_dim))
encoded = LSTM(latent_dim)(inputs)
decoded = RepeatVector(timesteps)(encoded)
decoded = LSTM(latent_dim, return_sequences=True)(decoded)
decoded = TimeDistributed(Dense(input_dim))(decoded)
sequence_autoencoder = Model(inputs, decoded)
encoder = Model(inputs, encoded)

sequence_autoencoder.compile(optimizer='adam', loss='mse')
before = encoder.predict(x, verbose=0)
history = sequence_autoencoder.fit(x, x, epochs=40, batch_size=16, shuffle=True, verbose=2)
codes = encoder.predict(x)
assert codes.shape == (200, latent_dim) and not np.allclose(codes, before)

middle = Input(shape=(latent_dim,))
decoder = Model(middle, sequence_autoencoder.layers[-1](
    sequence_autoencoder.layers[-2](sequence_autoencoder.layers[-3](middle))))
assert np.allclose(decoder.predict(codes), sequence_autoencoder.predict(x), atol=1e-5)
print('score:', 1 - history.history['loss'][-1] / x.var())
