# How Keras 2's example babi_rnn makes its network: a story and a question, joined.
import numpy as np
from keras import layers
from keras.models import Model

sentence = layers.Input(shape=(None,), dtype='int32')
encoded_sentence = layers.LSTM(8)(layers.Embedding(50, 8)(sentence))
question = layers.Input(shape=(None,), dtype='int32')
encoded_question = layers.LSTM(8)(layers.Embedding(50, 8)(question))
merged = layers.concatenate([encoded_sentence, encoded_question])
preds = layers.Dense(50, activation='softmax')(merged)
model = Model([sentence, question], preds)
print("outputs:", model([np.ones((3, 6)), np.ones((3, 4))]).shape)
