# How keras.io/examples/nlp/lstm_seq2seq makes its network: an encoder's states begin a decoder.
import keras
import numpy as np

encoder_inputs = keras.Input(shape=(None, 5))
encoder = keras.layers.LSTM(8, return_state=True)
encoder_outputs, state_h, state_c = encoder(encoder_inputs)
encoder_states = [state_h, state_c]
decoder_inputs = keras.Input(shape=(None, 7))
decoder_lstm = keras.layers.LSTM(8, return_sequences=True, return_state=True, name="decoder")
decoder_outputs, _, _ = decoder_lstm(decoder_inputs, initial_state=encoder_states)
decoder_outputs = keras.layers.Dense(7, activation="softmax")(decoder_outputs)
model = keras.Model([encoder_inputs, decoder_inputs], decoder_outputs)
print("outputs:", model([np.ones((3, 4, 5)), np.ones((3, 6, 7))]).shape)
