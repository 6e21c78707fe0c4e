"""Right uses, older spellings among them: a type checker must flag none."""

from pathlib import Path

import numpy as np

import fastrnn
from fastrnn import Input, Model, Sequential, callbacks, constraints, initializers, layers, losses
from fastrnn import metrics, optimizers, regularizers, schedules, utils  # isort: skip
from fastrnn.models import clone_model, load_model, model_from_json, save_model

x, y = np.zeros((8, 5, 3), np.float32), np.zeros((8, 1), np.float32)

layers.LSTM(np.int64(4), return_sequences=True, dropout=0, name="low", input_shape=(None, 3))
layers.LSTM(4, inner_activation="hard_sigmoid", init="uniform", input_dim=3, input_length=5)
layers.LSTM(4, kernel_regularizer=regularizers.L2(0.1), kernel_constraint=constraints.MaxNorm(2))
layers.LSTM(4, activation=np.tanh, kernel_initializer=initializers.HeNormal(seed=3), stateful=True)
layers.GRU(units=4, reset_after=False, batch_input_shape=(2, None, 3), implementation=1)
layers.SimpleRNN(4, unroll=True, trainable=False)
layers.RNN(layers.LSTMCell(4, dropout=0.1, implementation=1), return_sequences=True, name="rnn")
layers.RNN([layers.GRUCell(4), layers.SimpleRNNCell(2, "relu")], True, input_shape=(None, 3))
layers.RNN(layers.StackedRNNCells([layers.GRUCell(4, reset_after=False)]), time_major=False)
layers.CuDNNLSTM(4, return_sequences=True)
layers.Bidirectional(layers.LSTM(4), merge_mode=None, backward_layer=None, name="both")
layers.TimeDistributed(layers.Dense(2), input_shape=(5, 3))
layers.TimeDistributedDense(2)
layers.Dense(1, "relu", True, W_regularizer="l2", weights=[np.ones((3, 1)), np.zeros(1)])
layers.Embedding(100, 8, mask_zero=True, input_length=5, embeddings_initializer="normal")
layers.DepthwiseConv1D(3, depth_multiplier=2, depthwise_initializer="ones")
layers.SeparableConv1D(4, 3, 2, "same", pointwise_constraint="max_norm", bias_regularizer="l2")
layers.Conv1DTranspose(4, (3,), 2, "same", output_padding=1, name="up")
layers.Conv1D(4, 3, padding="causal", dilation_rate=(2,), data_format="channels_last")
layers.MaxPooling1D(2, strides=1, border_mode="same")
layers.GlobalAveragePooling1D(keepdims=True)
layers.BatchNormalization(axis=-1, momentum=0.9, beta_init="zeros")
vectorize = layers.TextVectorization(100, str.lower, ngrams=(1, 2), vocabulary=["a"], input_shape=1)
vectorize.adapt(["a b"])
layers.StringLookup(vocabulary="v.txt", salt=(1, 2), output_mode="one_hot")
layers.IntegerLookup(vocabulary=[1, 2], mask_token=0)
layers.LayerNormalization(axis=[-1], epsilon=1e-5)
layers.CRF(5, sparse_target=True, chain_initializer="zeros", input_shape=(None, 3), name="tags")
layers.Dropout(0.5, noise_shape=(None, 1, 3), seed=3)
layers.SpatialDropout1D(0.1)
layers.GaussianNoise(0.1)
layers.Masking(0), layers.RepeatVector(3), layers.Reshape((3, -1)), layers.Permute((2, 1))
layers.Activation("relu"), layers.ReLU(6.0), layers.LeakyReLU(alpha=0.1), layers.Softmax(axis=-1)
layers.UpSampling1D(2), layers.UpSampling1D(length=3), layers.Cropping1D(1), layers.Identity()
layers.ZeroPadding1D((1, 2), "channels_first"), layers.ZeroPadding1D({"left_pad": 1})
layers.UnitNormalization([1, 2]), layers.RMSNormalization(-1, epsilon=1e-5)
layers.GroupNormalization(groups=-1, axis=1, gamma_initializer="ones", center=False)
layers.Normalization(axis=None).adapt(np.ones(5))
layers.Normalization(mean=[1.0], variance=[2])
layers.Normalization((1, 2), invert=True).adapt((x for _ in range(2)), steps=1)
layers.Conv2D(4, (3, 2), padding="same", strides=2, input_shape=(None, 8, 1), subsample=(1, 1))
layers.ConvLSTM2D(4, (3, 2), 2, "same", return_sequences=True, nb_filter=4, dim_ordering="tf")
layers.ConvLSTM1D(4, [3], dilation_rate=2, recurrent_dropout=0.1, unroll=True, inner_init="ones")
layers.MaxPooling2D((2, 2), strides=2, border_mode="same"), layers.GlobalMaxPooling2D(keepdims=True)
layers.ZeroPadding2D(((1, 0), (2, 2)), dim_ordering="tf"), layers.Cropping2D((1, 2))
layers.ZeroPadding2D({"top_pad": 1}), layers.UpSampling2D((2, 1), "channels_first")
layers.SpatialDropout2D(0.1, "channels_first", seed=1), layers.Flatten("channels_first")
layers.Rescaling(1 / 255, offset=[0.5, 1.0], name="scaled")
layers.Add(), layers.Maximum(name="best"), layers.Concatenate(axis=1), layers.Dot([1, 2], True)
layers.add([x, x], name="sum"), layers.concatenate((x, x), 1), layers.dot([x, x], axes=(1, -1))
layers.Attention(use_scale=True, score_mode="concat"), layers.AdditiveAttention(dropout=0.1)
layers.MultiHeadAttention(2, 16, output_shape=8, attention_axes=(1, 2), name="at")(x, x, key=x)
layers.GroupQueryAttention(8, 4, 2, use_gate=True)(x, x, use_causal_mask=True)
layers.Flatten(), layers.PReLU(shared_axes=[1]), layers.ActivityRegularization(l2=0.1)

optimizers.Adam(schedules.ExponentialDecay(0.1, 10, 0.5), clipnorm=1, use_ema=True)
optimizers.Adam(lr=0.01, decay=1e-4), optimizers.SGD(0.1, momentum=0.9, nesterov=True)
optimizers.AdamW(0.1, weight_decay=0.01)
losses.BinaryCrossentropy(from_logits=True, reduction="none", name="loss")
losses.SparseCategoricalCrossentropy(ignore_class=-1)
metrics.AUC(curve="PR", thresholds=[0.5]), metrics.Precision(0.5, class_id=1)
metrics.MeanSquaredError(name="mine")

inputs = Input(shape=(None, 3), batch_size=2)
functional = Model(inputs=inputs, outputs=layers.Dense(1)(layers.LSTM(4)(inputs)), name="net")
functional.summary(print_fn=print)
functional.fit(x, y, verbose=0)

model = Sequential([Input((5, 3)), layers.LSTM(4)], name="net")
model.add(layers.Dense(1))
model.compile("adam", "mse", metrics=["mae", metrics.MeanSquaredError()])
model.compile(optimizers.Adam(0.1), losses.Huber(), [metrics.AUC()], run_eagerly=True)
model.compile(loss=lambda y_true, y_pred: (y_true - y_pred) ** 2)
history = model.fit(
    x, y, 2, epochs=3, callbacks=[callbacks.EarlyStopping("loss", patience=3), callbacks.History()],
    validation_data=(x, y), class_weight={0: 1.0, 1: 2.0}, workers=2, steps_per_epoch=4,
)  # fmt: skip
model.fit(([x, y] for _ in range(3)), verbose=2, validation_freq=[1, 3], shuffle="batch")
last: float = history.history["loss"][-1]
epochs: list[int] = history.epoch
outputs: np.ndarray = model.predict(x)
classes: np.ndarray = model.predict_classes(x)
model.evaluate(x, y, return_dict=True, sample_weight=np.ones(8))
model.train_on_batch(x, y), model.predict_on_batch(x)
predictor = model.compile_inference()
predicted: np.ndarray = predictor(x, out=np.zeros((8, 1), np.float32))
step = model.stream(8)
stepped: np.ndarray = step(x[:, 0])
step.state = step.state * 0
step.reset([3])
model.save(Path("m.keras"), include_optimizer=False)
model.save_weights("m.weights.h5")
save_model(model, "m.h5")
loaded: Model = load_model("m.keras", compile=False, custom_objects={"own": np.tanh})
loaded.load_weights("m.weights.h5", skip_mismatch=True)
copy: Model = clone_model(model_from_json(model.to_json()))
weights: list[np.ndarray] = copy.get_weights()
names: list[str] = [layer.name for layer in copy.layers]
fastrnn.from_onnx("m.onnx").to_sequential().summary()
content: bytes = fastrnn.to_c(model, "m.fastrnn")
fastrnn.saving.load_model("m.keras").summary()
fastrnn.plot.history(history, path="curves.png")
fastrnn.plot.model(model, "model.svg", show_shapes=True, rankdir="LR")
picture: bytes = utils.model_to_dot(model).create(prog="dot", format="svg")
utils.set_random_seed(3)
fastrnn.set_num_threads(2)
threads: int = fastrnn.get_num_threads()

fastrnn.plot.history({"loss": [1.0, 2.0]}).savefig("curves.png")
padded: np.ndarray = utils.pad_sequences([[1], [1, 2]], maxlen=3, dtype="float32", value=0.5)
activated: np.ndarray = fastrnn.activations.relu(np.ones(3), max_value=6)
callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: None, on_test_end=lambda logs: None)
for batch in fastrnn.preprocessing.timeseries_dataset_from_array(x[0], None, 3):
    print(batch.shape)

Dataset = fastrnn.pipeline.Dataset
pairs = Dataset.from_tensor_slices((x, y)).shuffle(100, seed=3).batch(8, drop_remainder=True)
model.fit(pairs.map(lambda a, b: (a / 2, b)).prefetch(fastrnn.pipeline.AUTOTUNE), epochs=2)
model.fit(pairs.repeat(), steps_per_epoch=3, validation_data=pairs.take(2))
spec = fastrnn.pipeline.TensorSpec(shape=(None, 3), dtype="float32")
counted: int = len(Dataset.from_generator(lambda: iter([x[0]]), output_signature=spec).take(1))
windows: Dataset = Dataset.range(9).window(3, shift=1).flat_map(lambda w: w.batch(3))
texts = utils.text_dataset_from_directory("texts", label_mode="binary", seed=3)


class Own(callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        print(self.model.optimizer.learning_rate, logs)


class Doubling(layers.Layer):
    def __init__(self, factor: float = 2, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def forward(self, x, run, mask=None):
        return self.factor * x


Sequential([Doubling(3, name="own"), layers.Dense(1)]).fit(x, y, callbacks=Own())
