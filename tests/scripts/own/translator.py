import numpy as np
from shown import show, start

import keras
import tensorflow as tf
from keras import layers

SRC = np.random.default_rng(2).integers(1, 9, (12, 6))
SRC[::3, 4:] = 0
TGT = np.random.default_rng(3).integers(1, 7, (12, 5))
TGT[::4, 3:] = 0
TGT[:, 0] = 1


class Encoder(keras.Model):
    def __init__(self, vocab, dim, units):
        super(Encoder, self).__init__()
        self.units = units
        self.embedding = layers.Embedding(vocab, dim)
        self.gru = layers.GRU(units, return_sequences=True, return_state=True)

    def call(self, x, hidden):
        x = self.embedding(x)
        output, state = self.gru(x, initial_state=hidden)
        return output, state

    def initialize_hidden_state(self, batch):
        return tf.zeros((batch, self.units))


class BahdanauAttention(layers.Layer):
    def __init__(self, units):
        super(BahdanauAttention, self).__init__()
        self.W1 = layers.Dense(units)
        self.W2 = layers.Dense(units)
        self.V = layers.Dense(1)

    def call(self, query, values):
        query_with_time_axis = tf.expand_dims(query, 1)
        score = self.V(tf.tanh(self.W1(query_with_time_axis) + self.W2(values)))
        attention_weights = keras.ops.softmax(score, axis=1)
        context_vector = attention_weights * values
        context_vector = tf.reduce_sum(context_vector, axis=1)
        return context_vector, attention_weights


class Decoder(keras.Model):
    def __init__(self, vocab, dim, units):
        super(Decoder, self).__init__()
        self.embedding = layers.Embedding(vocab, dim)
        self.gru = layers.GRU(units, return_sequences=True, return_state=True)
        self.fc = layers.Dense(vocab)
        self.attention = BahdanauAttention(units)

    def call(self, x, hidden, enc_output):
        context_vector, attention_weights = self.attention(hidden, enc_output)
        x = self.embedding(x)
        x = tf.concat([tf.expand_dims(context_vector, 1), x], axis=-1)
        output, state = self.gru(x)
        output = tf.reshape(output, (-1, output.shape[2]))
        x = self.fc(output)
        return x, state, attention_weights


encoder, decoder = Encoder(9, 4, 6), Decoder(7, 5, 6)
h0 = encoder.initialize_hidden_state(2)
out, state = encoder(SRC[:2], h0)
print("=", "shapes", *out.shape, *state.shape)
decoder(TGT[:2, :1], state, out)
start(encoder, 1)
start(decoder, 2)
print("=", "names", *(w.name for w in encoder.weights), *(w.name for w in decoder.weights))
optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
loss_object = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="none")


def loss_function(real, pred):
    mask = tf.logical_not(tf.equal(real, 0))
    loss_ = loss_object(real, pred)
    mask = tf.cast(mask, dtype=loss_.dtype)
    loss_ *= mask
    return tf.reduce_mean(loss_)


@tf.function
def train_step(inp, targ, enc_hidden):
    loss = 0
    with tf.GradientTape() as tape:
        enc_output, enc_hidden = encoder(inp, enc_hidden)
        dec_hidden = enc_hidden
        dec_input = tf.expand_dims([1] * 4, 1)
        for t in range(1, targ.shape[1]):
            predictions, dec_hidden, _ = decoder(dec_input, dec_hidden, enc_output)
            loss += loss_function(targ[:, t], predictions)
            dec_input = tf.expand_dims(targ[:, t], 1)
    batch_loss = loss / int(targ.shape[1])
    variables = encoder.trainable_variables + decoder.trainable_variables
    gradients = tape.gradient(loss, variables)
    optimizer.apply_gradients(zip(gradients, variables))
    return batch_loss


dataset = tf.data.Dataset.from_tensor_slices((SRC, TGT)).batch(4, drop_remainder=True)
for epoch in range(3):
    enc_hidden = encoder.initialize_hidden_state(4)
    total_loss = 0
    for batch, (inp, targ) in enumerate(dataset):
        batch_loss = train_step(inp, targ, enc_hidden)
        total_loss += batch_loss
        show("loss", float(batch_loss.numpy()))
    print("=", "epoch", f"{total_loss / 3:.6f}")
show("w", encoder.get_weights())
show("w", decoder.get_weights())


def evaluate(sentence):
    attention_plot = np.zeros((5, 6))
    inputs = tf.convert_to_tensor(sentence[None])
    result = []
    hidden = [tf.zeros((1, 6))]
    enc_out, enc_hidden = encoder(inputs, hidden)
    dec_hidden = enc_hidden
    dec_input = tf.expand_dims([1], 0)
    for t in range(5):
        predictions, dec_hidden, attention_weights = decoder(dec_input, dec_hidden, enc_out)
        attention_weights = tf.reshape(attention_weights, (-1,))
        attention_plot[t] = attention_weights.numpy()
        predicted_id = tf.argmax(predictions[0]).numpy()
        result.append(predicted_id)
        dec_input = tf.expand_dims([predicted_id], 0)
    return result, attention_plot


for n in range(3):
    result, plot = evaluate(SRC[n])
    print("=", "result", *result)
    show("plot", plot)
