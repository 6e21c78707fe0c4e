# The documents have the three models below, without imports and sizes.
from keras.layers import LSTM, Bidirectional
from keras.models import Sequential

num_channels, input_length, input_dim = 8, 6, 3

model = Sequential()
model.add(LSTM(128, input_dim=64, input_length=5, return_sequences=True))
model.add(LSTM(256, return_sequences=False))
model.summary()

model = Sequential()
model.add(Bidirectional(LSTM(10, return_sequences=True), input_shape=(5,
10)))
model.summary()

model = Sequential()
model.add(Bidirectional(LSTM(num_channels, 
        implementation = 2, recurrent_activation = 'sigmoid'),
        input_shape=(input_length, input_dim)))
model.summary()
