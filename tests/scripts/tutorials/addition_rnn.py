# The calls of keras.io/examples/nlp/addition_rnn with one digit to add, for fewer sums.
import keras
import numpy as np
from keras import layers

DIGITS, REVERSE = 1, True
MAXLEN = DIGITS + 1 + DIGITS


class CharacterTable:
    def __init__(self, chars):
        self.chars = sorted(set(chars))

    def encode(self, text, num_rows):
        x = np.zeros((num_rows, len(self.chars)))
        for i, c in enumerate(text):
            x[i, self.chars.index(c)] = 1
        return x

    def decode(self, x, calc_argmax=True):
        return "".join(self.chars[i] for i in (x.argmax(axis=-1) if calc_argmax else x))


chars = "0123456789+ "
ctable = CharacterTable(chars)
sums = [(f"{a}+{b}"[:: -1 if REVERSE else 1], f"{a + b}".ljust(DIGITS + 1))
        for a in range(10) for b in range(10)]
x = np.array([ctable.encode(question, MAXLEN) for question, _ in sums], dtype=bool)
y = np.array([ctable.encode(answer, DIGITS + 1) for _, answer in sums], dtype=bool)
indices = np.arange(len(y))
np.random.default_rng(0).shuffle(indices)
x, y = x[indices], y[indices]

print("Build model...")
num_layers = 1
model = keras.Sequential()
model.add(layers.Input((MAXLEN, len(chars))))
model.add(layers.LSTM(48))
model.add(layers.RepeatVector(DIGITS + 1))
for _ in range(num_layers):
    model.add(layers.LSTM(48, return_sequences=True))
model.add(layers.Dense(len(chars), activation="softmax"))
model.compile(loss="categorical_crossentropy", optimizer="adam", metrics=["accuracy"])
model.summary()

for epoch in range(1, 4):
    print("Iteration", epoch)
    history = model.fit(x, y, batch_size=10, epochs=40, validation_data=(x[:10], y[:10]), verbose=2)
    for i in range(3):
        ind = np.random.randint(0, len(x))
        rowx, rowy = x[np.array([ind])], y[np.array([ind])]
        preds = np.argmax(model.predict(rowx, verbose=0), axis=-1)
        print("Q", ctable.decode(rowx[0])[::-1], "T", ctable.decode(rowy[0]), end=" ")
        print("☑" if ctable.decode(rowy[0]) == ctable.decode(preds[0], calc_argmax=False) else "☒")
print("score:", history.history["accuracy"][-1])
