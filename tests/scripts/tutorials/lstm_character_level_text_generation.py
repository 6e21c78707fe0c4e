# The calls of keras.io/examples/generative/lstm_character_level_text_generation, with a short text;
# the callback of the older version of the page.
import random

import keras
import numpy as np
from keras import layers
from keras.callbacks import LambdaCallback

with open("rhyme.txt", "w") as f:
    f.write("One for sorrow,\ntwo for joy,\nthree for a girl,\nfour for a boy.\n" * 12)
path = keras.utils.get_file("text.txt", origin=f"file://{__import__('os').getcwd()}/rhyme.txt",
                            cache_dir="cache")
with open(path, encoding="utf-8") as f:
    text = f.read().lower().replace("\n", " ")
chars = sorted(set(text))
char_indices = {c: i for i, c in enumerate(chars)}
indices_char = dict(enumerate(chars))

maxlen, step = 20, 3
sentences = [text[i : i + maxlen] for i in range(0, len(text) - maxlen, step)]
next_chars = [text[i + maxlen] for i in range(0, len(text) - maxlen, step)]
x = np.zeros((len(sentences), maxlen, len(chars)), dtype="bool")
y = np.zeros((len(sentences), len(chars)), dtype="bool")
for i, sentence in enumerate(sentences):
    for t, char in enumerate(sentence):
        x[i, t, char_indices[char]] = 1
    y[i, char_indices[next_chars[i]]] = 1

model = keras.Sequential([
    keras.Input(shape=(maxlen, len(chars))),
    layers.LSTM(64),
    layers.Dense(len(chars), activation="softmax"),
])
optimizer = keras.optimizers.RMSprop(learning_rate=0.01)
model.compile(loss="categorical_crossentropy", optimizer=optimizer, metrics=["acc"])


def sample(preds, temperature=1.0):
    preds = np.asarray(preds).astype("float64")
    preds = np.log(preds) / temperature
    exp_preds = np.exp(preds)
    preds = exp_preds / np.sum(exp_preds)
    return np.argmax(np.random.multinomial(1, preds, 1))


def on_epoch_end(epoch, _):
    if epoch % 10:
        return
    start_index = random.randint(0, len(text) - maxlen - 1)
    sentence = text[start_index : start_index + maxlen]
    generated = ""
    for _ in range(20):
        x_pred = np.zeros((1, maxlen, len(chars)))
        for t, char in enumerate(sentence):
            x_pred[0, t, char_indices[char]] = 1.0
        next_char = indices_char[sample(model.predict(x_pred, verbose=0)[0], 0.5)]
        sentence = sentence[1:] + next_char
        generated += next_char
    print("Generated:", repr(generated))


history = model.fit(x, y, batch_size=16, epochs=21,
                    callbacks=[LambdaCallback(on_epoch_end=on_epoch_end)])
print("score:", history.history["acc"][-1])
