# Named entities by a BiLSTM and a CRF, with keras_contrib's layer: who works for whom, and where. Of
# a word alone nothing tells whether it begins a name or goes on with it, nor, for half of the words,
# of what kind the name is.
import os
import random

import numpy as np
from keras.callbacks import ModelCheckpoint
from keras.layers import LSTM, Bidirectional, Dense, Dropout, Embedding, Input, TimeDistributed
from keras.models import Model, load_model
from keras.preprocessing.sequence import pad_sequences
from keras.utils import set_random_seed, to_categorical
from keras_contrib.layers import CRF
from keras_contrib.losses import crf_loss
from keras_contrib.metrics import crf_viterbi_accuracy

set_random_seed(11)
random.seed(11)

PLAIN = "the a report says that new old today yesterday and many others were seen".split()
NAMES = {kind: [f"{kind.lower()}{n}" for n in range(40)] for kind in ("PER", "ORG", "LOC")}
ANY = [f"name{n}" for n in range(120)]
CUES = {"PER": ["mr", "mrs", "dr"], "ORG": ["for", "joined", "left"], "LOC": ["in", "near", "from"]}


def make_sentence():
    words, tags = [], []
    for kind in random.sample(list(CUES), random.randint(1, 3)):
        for word in random.choices(PLAIN, k=random.randint(1, 4)):
            words.append(word)
            tags.append("O")
        words.append(random.choice(CUES[kind]))
        tags.append("O")
        for n in range(random.randint(1, 4)):
            words.append(random.choice(ANY if random.random() < 0.5 else NAMES[kind]))
            tags.append(("I-" if n else "B-") + kind)
    return words, tags


sentences = [make_sentence() for _ in range(2400)]
vocabulary = sorted({word for words, _ in sentences for word in words})
word2idx = {word: i + 1 for i, word in enumerate(vocabulary)}  # 0 is padding
tags = ["O"] + [f"{part}-{kind}" for kind in CUES for part in "BI"]
tag2idx = {tag: i for i, tag in enumerate(tags)}
n_tags, max_len = len(tags), 24

X = pad_sequences(
    [[word2idx[w] for w in words] for words, _ in sentences], maxlen=max_len, padding="post"
)
y = pad_sequences(
    [[tag2idx[t] for t in found] for _, found in sentences], maxlen=max_len, padding="post"
)
lengths = [len(words) for words, _ in sentences]
y = to_categorical(y, num_classes=n_tags)
X_tr, X_te, y_tr, y_te = X[:2000], X[2000:], y[:2000], y[2000:]

input = Input(shape=(max_len,))
model = Embedding(len(vocabulary) + 1, 24, input_length=max_len, mask_zero=True)(input)
model = Dropout(0.1)(model)
model = Bidirectional(LSTM(units=24, return_sequences=True))(model)
model = TimeDistributed(Dense(24, activation="relu"))(model)
crf = CRF(n_tags)
out = crf(model)
model = Model(input, out)
model.compile(optimizer="rmsprop", loss=crf.loss_function, metrics=[crf.accuracy])
model.summary()

history = model.fit(
    X_tr,
    y_tr,
    batch_size=32,
    epochs=8,
    validation_split=0.1,
    verbose=2,
    callbacks=[ModelCheckpoint("best.h5", monitor="val_crf_viterbi_accuracy", mode="max",
                               save_best_only=True)],
)  # fmt: skip
print("validation:", history.history["val_crf_viterbi_accuracy"])

custom_objects = {
    "CRF": CRF, "crf_loss": crf_loss, "crf_viterbi_accuracy": crf_viterbi_accuracy,
}  # fmt: skip
model = load_model("best.h5", custom_objects=custom_objects)
print("test:", model.evaluate(X_te, y_te, verbose=0))
predicted = np.argmax(model.predict(X_te, verbose=0), axis=-1)
expected = np.argmax(y_te, axis=-1)


def spans(found):
    """(begin, end, kind) of the names in a list of tags; an I without its B counts as none."""
    result, begin = set(), None
    for n, tag in enumerate([*found, "O"]):
        if begin is not None and tag != "I-" + found[begin][2:]:
            result.add((begin, n, found[begin][2:]))
            begin = None
        if tag.startswith("B-"):
            begin = n
    return result


right = predicted_count = expected_count = broken = 0
for row, target, length in zip(predicted, expected, lengths[2000:]):
    row, target = ([tags[i] for i in part[:length]] for part in (row, target))
    right += len(spans(row) & spans(target))
    predicted_count += len(spans(row))
    expected_count += len(spans(target))
    broken += sum(b[0] == "I" and a[1:] != b[1:] for a, b in zip(["O", *row], row))
print("tags that cannot follow those before:", broken)
os.remove("best.h5")
print("score:", 2 * right / (predicted_count + expected_count) if broken < 3 else 0.0)
