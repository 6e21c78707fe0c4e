# The calls of "Using pre-trained word embeddings in a Keras model" (blog.keras.io) and of
# keras-io's pretrained_word_embeddings; as Keras 3 has no Tokenizer, those of Keras 2.
import keras
import numpy as np
from keras import initializers, layers
from keras.layers import Embedding, Input
from keras.models import Model
from keras.preprocessing.sequence import pad_sequences
from keras.preprocessing.text import Tokenizer
from keras.utils.np_utils import to_categorical

rng = np.random.default_rng(0)
words = [f"word{i}" for i in range(40)]
labels = rng.integers(0, 2, 200)
texts = [" ".join(rng.choice(words[20 * y:20 * y + 25], 12)).capitalize() + "." for y in labels]
embeddings_index = {word: rng.normal(size=20) for word in words}

tokenizer = Tokenizer(num_words=50)
tokenizer.fit_on_texts(texts)
sequences = tokenizer.texts_to_sequences(texts)
word_index = tokenizer.word_index
print('Found %s unique tokens.' % len(word_index))
data = pad_sequences(sequences, maxlen=15)
labels = to_categorical(np.asarray(labels))
embedding_matrix = np.zeros((len(word_index) + 1, 20))
for word, i in word_index.items():
    embedding_vector = embeddings_index.get(word)
    if embedding_vector is not None:
        embedding_matrix[i] = embedding_vector

older = Embedding(len(word_index) + 1, 20, weights=[embedding_matrix], input_length=15,
                  trainable=False)
newer = Embedding(len(word_index) + 1, 20, trainable=False)
newer.build((1,))
newer.set_weights([embedding_matrix])
constant = Embedding(len(word_index) + 1, 20, trainable=False,
                     embeddings_initializer=initializers.Constant(embedding_matrix))
scores = []
for embedding_layer in (older, newer, constant):
    sequence_input = Input(shape=(15,), dtype='int32')
    embedded_sequences = embedding_layer(sequence_input)
    x = layers.Conv1D(32, 3, activation='relu')(embedded_sequences)
    x = layers.MaxPooling1D(3)(x)
    x = layers.Bidirectional(layers.LSTM(16))(x)
    x = layers.Dropout(0.2)(x)
    preds = layers.Dense(2, activation='softmax')(x)
    model = Model(sequence_input, preds)
    model.compile(loss='categorical_crossentropy', optimizer='rmsprop', metrics=['acc'])
    history = model.fit(data, labels, validation_split=0.2, epochs=8, batch_size=16, verbose=0)
    assert np.array_equal(embedding_layer.get_weights()[0], embedding_matrix.astype('float32'))
    scores.append(max(history.history['val_acc']))
vectorizer = Tokenizer()
print('score:', min(scores))
