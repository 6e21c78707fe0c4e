# A translator with Bahdanau's attention: an encoder that reads both ways, a decoder that looks at
# its steps. The languages are made up: the adjective changes places and ends as its noun does, and
# the verb goes to the end.
import numpy as np
from tensorflow import keras
from tensorflow.keras import layers

keras.utils.set_random_seed(11)

NOUNS = {"cat": "miro", "dog": "vola", "fish": "pesko", "bird": "tuma", "king": "rano"}
ADJECTIVES = {"big": "gran", "small": "pit", "red": "rub", "old": "senk"}
VERBS = {"sees": "vid", "eats": "mang", "likes": "lub"}
LENGTH = 8


def make_sentence(rng):
    def phrase():
        noun, adjectives = rng.choice(list(NOUNS)), rng.permutation(list(ADJECTIVES))
        adjectives = list(adjectives[: rng.integers(0, 3)])
        theirs = [NOUNS[noun]] + [ADJECTIVES[a] + NOUNS[noun][-1] for a in adjectives]
        return adjectives + [noun], theirs

    (subject, theirs), (thing, its) = phrase(), phrase()
    verb = rng.choice(list(VERBS))
    return subject + [verb] + thing, theirs + its + [VERBS[verb]]


rng = np.random.default_rng(0)
pairs = [make_sentence(rng) for _ in range(3000)]
source_words = ["", *sorted({word for source, _ in pairs for word in source})]
target_words = ["", "[start]", "[end]", *sorted({word for _, target in pairs for word in target})]


def indices(sentences, words):
    rows = [[words.index(word) for word in sentence] for sentence in sentences]
    return keras.utils.pad_sequences(rows, maxlen=LENGTH, padding="post")


source = indices([source for source, _ in pairs], source_words)
target_in = indices([["[start]"] + target for _, target in pairs], target_words)
target_out = indices([target + ["[end]"] for _, target in pairs], target_words)
test = 200

units = 32
encoder_inputs = keras.Input(shape=(None,), dtype="int32", name="source")
x = layers.Embedding(len(source_words), units, mask_zero=True)(encoder_inputs)
encoder = layers.Bidirectional(layers.LSTM(units, return_sequences=True, return_state=True))
encoded, forward_h, forward_c, backward_h, backward_c = encoder(x)
state_h = layers.Concatenate()([forward_h, backward_h])
state_c = layers.Concatenate()([forward_c, backward_c])

decoder_inputs = keras.Input(shape=(None,), dtype="int32", name="target")
embedding = layers.Embedding(len(target_words), units, mask_zero=True)
decoder = layers.LSTM(2 * units, return_sequences=True, return_state=True)
attention = layers.AdditiveAttention()
both = layers.Concatenate(axis=-1)
mixed = layers.TimeDistributed(layers.Dense(2 * units, activation="tanh"))
words = layers.Dense(len(target_words), activation="softmax")


def decode(inputs, encoded, states):
    sequence, h, c = decoder(embedding(inputs), initial_state=states)
    context = attention([sequence, encoded])
    return words(mixed(both([context, sequence]))), h, c


outputs, _, _ = decode(decoder_inputs, encoded, [state_h, state_c])
model = keras.Model([encoder_inputs, decoder_inputs], outputs, name="translator")
model.compile(
    keras.optimizers.Adam(0.005),
    loss="sparse_categorical_crossentropy",
    metrics=["accuracy"],
    weighted_metrics=[],
)
model.fit(
    {"source": source[test:], "target": target_in[test:]},
    target_out[test:],
    batch_size=64,
    epochs=12,
    validation_split=0.1,
    callbacks=[keras.callbacks.EarlyStopping(patience=4, restore_best_weights=True)],
    verbose=2,
)

# One word at a time, all sentences at once.
encoder_model = keras.Model(encoder_inputs, [encoded, state_h, state_c])
seen = keras.Input(shape=(None, 2 * units))
given = [keras.Input(shape=(2 * units,)), keras.Input(shape=(2 * units,))]
word = keras.Input(shape=(1,), dtype="int32")
decoder_model = keras.Model([word, seen, *given], decode(word, seen, given))

encodings, h, c = encoder_model.predict(source[:test], verbose=0)
current = np.full((test, 1), target_words.index("[start]"))
written = [[] for _ in range(test)]
for _ in range(LENGTH):
    scores, h, c = decoder_model.predict([current, encodings, h, c], verbose=0)
    current = scores.argmax(axis=-1)
    for sentence, place in zip(written, current[:, 0]):
        sentence.append(target_words[place])
translations = [sentence[: (sentence + ["[end]"]).index("[end]")] for sentence in written]
for (sentence, _), translation in list(zip(pairs, translations))[:3]:
    print(" ".join(sentence), "->", " ".join(translation))
right = [translation == target for translation, (_, target) in zip(translations, pairs)]
print("score:", np.mean(right))
