# The calls of "Sequence tagging with LSTMs" (depends-on-the-definition.com), a chain of layers in
# Keras 2's functional API.
import numpy as np
from keras.models import Model, Input
from keras.layers import LSTM, Embedding, Dense, TimeDistributed, Dropout, Bidirectional
from keras.preprocessing.sequence import pad_sequences
from keras.utils import to_categorical

rng = np.random.default_rng(0)
max_len, n_words, n_tags = 12, 40, 3
X = [rng.integers(1, n_words, rng.integers(4, max_len + 1)) for _ in range(200)]
y = [(x % 5 == 0) + (np.append(0, x[:-1]) % 5 == 0) for x in X]
X = pad_sequences(maxlen=max_len, sequences=X, padding="post", value=n_words - 1)
y = pad_sequences(maxlen=max_len, sequences=y, padding="post", value=0)
y = [to_categorical(i, num_classes=n_tags) for i in y]

input = Input(shape=(max_len,))
model = Embedding(input_dim=n_words, output_dim=20, input_length=max_len)(input)
model = Dropout(0.1)(model)
model = Bidirectional(LSTM(units=20, return_sequences=True, recurrent_dropout=0.1))(model)
out = TimeDistributed(Dense(n_tags, activation="softmax"))(model)
model = Model(input, out)
model.compile(optimizer="rmsprop", loss="categorical_crossentropy", metrics=["accuracy"])
history = model.fit(X, np.array(y), batch_size=8, epochs=20, validation_split=0.1, verbose=1)
p = np.argmax(model.predict(np.array([X[0]])), axis=-1)
assert p.shape == (1, max_len)
print('score:', history.history["val_acc"][-1])
