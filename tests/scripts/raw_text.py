# Classifies reviews from raw strings: a TextVectorization in the model, as in TensorFlow's tutorials
# "Basic text classification" and "Text classification with an RNN", on reviews that it makes itself.
import os
import re
import string

import numpy as np
import tensorflow as tf
from tensorflow.keras import layers, losses

rng = np.random.default_rng(3)
tf.keras.utils.set_random_seed(3)

GOOD = ["great", "wonderful", "moving", "a masterpiece", "funny"]
BAD = ["dull", "a waste of time", "boring", "awful", "predictable"]
REST = "the film was and its actors story of a an in with for too quite music scene ending".split()


def review(positive):
    words = [*rng.choice(REST, rng.integers(4, 25)), *rng.choice(GOOD if positive else BAD, 2)]
    rng.shuffle(words)
    text = " ".join(words).capitalize()
    return text.replace(" and ", "<br />And ") + "!!"


labels = rng.integers(0, 2, 400)
reviews = np.array([[review(label)] for label in labels], dtype=object)
train_text, train_labels, test_text, test_labels = reviews[:300], labels[:300], reviews[300:], labels[300:]


@tf.keras.utils.register_keras_serializable()
def custom_standardization(input_data):
    lowercase = tf.strings.lower(input_data)
    stripped_html = tf.strings.regex_replace(lowercase, "<br />", " ")
    return tf.strings.regex_replace(stripped_html, "[%s]" % re.escape(string.punctuation), "")


max_features, sequence_length = 1000, 30
vectorize_layer = layers.TextVectorization(
    standardize=custom_standardization,
    max_tokens=max_features,
    output_mode="int",
    output_sequence_length=sequence_length,
)
vectorize_layer.adapt(train_text)
print("1 --->", vectorize_layer.get_vocabulary()[1], " 2 --->", vectorize_layer.get_vocabulary()[2])
print("Vocabulary size: {}".format(len(vectorize_layer.get_vocabulary())))
print("Vectorized review", vectorize_layer(tf.constant(["A <br />dull FILM."])).numpy()[0, :4])

model = tf.keras.Sequential([
    tf.keras.Input(shape=(1,), dtype=tf.string),
    vectorize_layer,
    layers.Embedding(len(vectorize_layer.get_vocabulary()), 16, mask_zero=True),
    layers.Bidirectional(layers.LSTM(16)),
    layers.Dense(16, activation="relu"),
    layers.Dense(1),
])
model.summary()
model.compile(loss=losses.BinaryCrossentropy(from_logits=True), optimizer="adam", metrics=["accuracy"])
model.fit(tf.constant(train_text), train_labels, epochs=8, validation_data=(tf.constant(test_text), test_labels))
loss, accuracy = model.evaluate(tf.constant(test_text), test_labels)

examples = tf.constant(["The film was great and moving!", "Awful. A waste<br />of time."])
predictions = model.predict(examples)
print("good, bad:", float(predictions[0, 0]) > 0, float(predictions[1, 0]) > 0)
model.save("raw_text.keras")
loaded = tf.keras.models.load_model("raw_text.keras")
print("same after loading:", np.array_equal(loaded.predict(examples), predictions))
os.remove("raw_text.keras")

# Words by their counts, and which of them there are.
counts = tf.keras.layers.TextVectorization(output_mode="tf-idf", max_tokens=60)
counts.adapt(train_text)
text = tf.keras.Input(shape=(), dtype="string", name="text")
outputs = layers.Dense(1, activation="sigmoid")(counts(text))
bag = tf.keras.Model(text, outputs)
bag.compile("adam", "binary_crossentropy", metrics=["accuracy"])
bag.fit(tf.constant(train_text[:, 0]), train_labels, epochs=30, verbose=0)
print("of words:", bag.evaluate(tf.constant(test_text[:, 0]), test_labels, verbose=0)[1])
print("score:", accuracy)
