# Words backwards, character by character. An LSTM reads a word; another begins with its states and
# writes: in training beside the right characters, afterwards one step at a time from its own.
import os

import keras
import numpy as np
from keras import layers

keras.utils.set_random_seed(7)
START, END, PAD = "<", ">", " "
ALPHABET = "abcdefgh" + START + END + PAD
LONGEST = 4
UNITS = 64


def make_words(count):
    rng = np.random.default_rng(count)
    lengths = rng.integers(2, LONGEST + 1, count)
    words = sorted({"".join(rng.choice(list("abcdefgh"), length)) for length in lengths})
    return list(rng.permutation(words))


def one_hot(texts, length):
    places = [[ALPHABET.index(character) for character in text.ljust(length)] for text in texts]
    return np.eye(len(ALPHABET), dtype="float32")[places]


words = make_words(2000)
answers = [word[::-1] for word in words]
x = one_hot(words, LONGEST)
given = one_hot([START + answer for answer in answers], LONGEST + 1)
wanted = one_hot([answer + END for answer in answers], LONGEST + 1)
test = len(words) // 10

source = keras.Input(shape=(None, len(ALPHABET)), name="source")
_, state_h, state_c = layers.LSTM(UNITS, return_state=True, name="encoder")(source)
target = keras.Input(shape=(None, len(ALPHABET)), name="target")
decoder = layers.LSTM(UNITS, return_sequences=True, return_state=True, name="decoder")
sequence, _, _ = decoder(target, initial_state=[state_h, state_c])
outputs = layers.Dense(len(ALPHABET), activation="softmax", name="characters")(sequence)
model = keras.Model([source, target], outputs)
model.summary()
model.compile(
    optimizer=keras.optimizers.Adam(0.01), loss="categorical_crossentropy", metrics=["accuracy"]
)
model.fit(
    [x[test:], given[test:]],
    wanted[test:],
    batch_size=64,
    epochs=25,
    validation_split=0.1,
    verbose=2,
)
model.save("backwards.keras")

# The pair that writes, of the layers of what was saved.
model = keras.models.load_model("backwards.keras")
os.remove("backwards.keras")
encoder_model = keras.Model(model.input[0], model.layers[2].output[1:])

target, decoder, dense = model.input[1], model.get_layer("decoder"), model.layers[4]
states = [keras.Input(shape=(UNITS,), name="h"), keras.Input(shape=(UNITS,), name="c")]
sequence, *new_states = decoder(target, initial_state=states)
decoder_model = keras.Model([target] + states, [dense(sequence)] + new_states)


def write(word):
    states = encoder_model.predict(one_hot([word], LONGEST), verbose=0)
    character, text = START, ""
    while len(text) <= LONGEST:
        scores, *states = decoder_model.predict([one_hot([character], 1)] + states, verbose=0)
        character = ALPHABET[np.argmax(scores[0, -1])]
        if character == END:
            break
        text += character
    return text


right = 0
for number, word in enumerate(words[:test]):
    written = write(word)
    right += written == word[::-1]
    if number < 5:
        print(word, "->", written)
print("score:", right / test)
