"""Mistakes: a type checker has to flag every line that ends in `# wrong`, and no other one."""

import numpy as np

import fastrnn
from fastrnn import Input, Model, Sequential, callbacks, initializers, layers, losses, metrics
from fastrnn import activations, optimizers, regularizers, schedules, utils  # isort: skip
from fastrnn.models import load_model

x, y = np.zeros((8, 5, 3), np.float32), np.zeros((8, 1), np.float32)

# names that there are not
fastrnn.nothing  # wrong
fastrnn.LSTM  # wrong
layers.LSMT(4)  # wrong
losses.MeanSquareError()  # wrong
callbacks.EarlyStop()  # wrong
from fastrnn.layers import Lstm  # noqa: E402, F401  # wrong

# layers: kinds of values, misspelt and missing arguments
layers.LSTM("32")  # wrong
layers.LSTM(32.5)  # wrong
layers.LSTM(32, return_sequnces=True)  # wrong
layers.LSTM(32, return_sequences="yes")  # wrong
layers.LSTM(32, dropout="0.5")  # wrong
layers.LSTM(32, input_shap=(5, 3))  # wrong
layers.LSTM()  # wrong
layers.GRU("32")  # wrong
layers.GRU(32, recurent_dropout=0.1)  # wrong
layers.SimpleRNN(None)  # wrong
layers.RNN(layers.LSTM(4))  # wrong
layers.RNN(layers.LSTMCell(4), return_sequnces=True)  # wrong
layers.LSTMCell("4")  # wrong
layers.GRUCell(4, return_sequences=True)  # wrong
layers.SimpleRNNCell(4, recurrent_activation="tanh")  # wrong
layers.StackedRNNCells(layers.GRUCell(4))  # wrong
layers.Bidirectional(32)  # wrong
layers.Bidirectional(layers.LSTM(4), merge_mode="add")  # wrong
layers.TimeDistributed("dense")  # wrong
layers.Dense("10")  # wrong
layers.Dense(10, activaton="relu")  # wrong
layers.Dense(10, activation=3)  # wrong
layers.Embedding(100)  # wrong
layers.Embedding("100", 8)  # wrong
layers.Embedding(100, 8, mask_zeros=True)  # wrong
layers.Dropout("half")  # wrong
layers.Conv1D(4)  # wrong
layers.Conv1D(4, 3, paddings="same")  # wrong
layers.Conv1DTranspose(4, 3, output_padding="1")  # wrong
layers.Conv1DTranspose(4, 3, groups=1)  # wrong
layers.DepthwiseConv1D(3, depth_multiplier="2")  # wrong
layers.SeparableConv1D(4, 3, kernel_initializer="ones")  # wrong
layers.MaxPooling1D(pool="2")  # wrong
layers.BatchNormalization(momentun=0.9)  # wrong
layers.LayerNormalization(epsilon="small")  # wrong
layers.CRF("5")  # wrong
layers.CRF(5, chain_init="zeros")  # wrong
layers.Masking(mask_value="none")  # wrong
layers.RepeatVector("3")  # wrong
layers.Reshape(target="3")  # wrong
layers.Activation()  # wrong
layers.UpSampling1D("2")  # wrong
layers.Conv2D(4)  # wrong
layers.Conv2D(4, 3, paddings="same")  # wrong
layers.ConvLSTM2D(4)  # wrong
layers.ConvLSTM2D(4, 3, groups=1)  # wrong
layers.ConvLSTM1D(4, "3")  # wrong
layers.MaxPooling2D(pool=2)  # wrong
layers.GlobalAveragePooling2D(keep_dims=True)  # wrong
layers.UpSampling2D("2")  # wrong
layers.ZeroPadding2D(pading=1)  # wrong
layers.SpatialDropout2D()  # wrong
layers.ZeroPadding1D(pading=1)  # wrong
layers.Cropping1D(1, "channels_last")  # wrong
layers.Rescaling()  # wrong
layers.Normalization(axis="last")  # wrong
layers.Normalization(var=1.0)  # wrong
layers.GroupNormalization("4")  # wrong
layers.GroupNormalization(axes=1)  # wrong
layers.RMSNormalization(scale=False)  # wrong
layers.UnitNormalization("last")  # wrong
layers.TextVectorization(output_mode="hot")  # wrong
layers.TextVectorization(max_token=9)  # wrong
layers.StringLookup(vocabulary_size="9")  # wrong
layers.IntegerLookup(mask_token="")  # wrong
layers.Add(axis=1)  # wrong
layers.Concatenate("time")  # wrong
layers.Dot()  # wrong
layers.Dot(1, normalise=True)  # wrong
layers.Attention(scale=True)  # wrong
layers.AdditiveAttention(score_mode=1)  # wrong
layers.MultiHeadAttention(2)  # wrong
layers.MultiHeadAttention(2, "16")  # wrong
layers.GroupQueryAttention(8, 4, 2, units=3)  # wrong
layers.ReLU(max="6")  # wrong
layers.Dense(10, name=3)  # wrong
Input(shap=(5, 3))  # wrong
Model(Input((5, 3)), "outputs")  # wrong

# optimizers, losses, metrics and the others
optimizers.Adam(learning_rate="fast")  # wrong
optimizers.Adam(learning_rat=0.1)  # wrong
optimizers.Adam(clipnorm="1")  # wrong
optimizers.SGD(0.1, nesterovs=True)  # wrong
optimizers.RMSprop(rho="0.9")  # wrong
optimizers.AdamW(weight_decay="0.1")  # wrong
schedules.ExponentialDecay(0.1, 10)  # wrong
losses.BinaryCrossentropy(from_logit=True)  # wrong
losses.Huber(delta="1")  # wrong
losses.MeanSquaredError(reduction="average")  # wrong
metrics.AUC(num_threshold=10)  # wrong
metrics.Precision(top_k="1")  # wrong
callbacks.EarlyStopping(patience="3")  # wrong
callbacks.EarlyStopping(patiense=3)  # wrong
callbacks.ModelCheckpoint()  # wrong
regularizers.L2(l1=0.1)  # wrong
initializers.GlorotUniform(sed=3)  # wrong

# functions
activations.relu([1.0]).shap  # wrong
losses.mean_squared_error([1.0], [2.0]).shap  # wrong
metrics.binary_accuracy([1.0])  # wrong
fastrnn.plot.history(3)  # wrong
utils.pad_sequences([[1], [1, 2]], maxlen="3")  # wrong
utils.pad_sequences([[1], [1, 2]]).shap  # wrong
utils.to_categorical([1, 2], num_class=3)  # wrong
callbacks.LambdaCallback(on_epoch_end=3)  # wrong
callbacks.TensorBoard(logdir="logs")  # wrong
layers.deserialize({}).unit  # wrong
layers.Dense(3).get_weight()  # wrong
fastrnn.datasets.imdb.load_data(num_words="many")  # wrong
optimizers.get("adam").rate  # wrong

# models
model = Sequential([layers.LSTM(4), 3])  # wrong
model.ad(layers.Dense(1))  # wrong
model.add("dense")  # wrong
model.compile(optimiser="adam")  # wrong
model.compile(3, "mse")  # wrong
model.fit(x, y, epoch=3)  # wrong
model.fit(x, y, epochs="3")  # wrong
model.fit(x, y, batch_size="32")  # wrong
model.fit(x, y, callbacks=["early"])  # wrong
model.fit(x, y, validation_split="0.1")  # wrong
model.predict(x, batchsize=3)  # wrong
model.evaluate(x, y, return_dicts=True)  # wrong
model.save(3)  # wrong
model.summary(print_fn=3)  # wrong
model.get_layer(3)  # wrong

# what comes back is known
history = model.fit(x, y)
history.histories  # wrong
history.history["loss"].apend(1.0)  # wrong
history.history.loss  # wrong
loaded = load_model("m.keras")
loaded.pedict(x)  # wrong
load_model(3)  # wrong
load_model("m.keras", compiled=False)  # wrong
predictor = model.compile_inference()
predictor(x).shap  # wrong
predictor.predict(x)  # wrong
model.predict(x).shap  # wrong
model.stream(2)(x).shap  # wrong
model.stream("2")  # wrong
model.to_json().decode()  # wrong
fastrnn.from_onnx("m.onnx").to_keras()  # wrong
fastrnn.to_c(model, 3)  # wrong
fastrnn.to_c(model).encode()  # wrong
fastrnn.set_num_threads("2")  # wrong
pairs = fastrnn.pipeline.Dataset.from_tensor_slices((x, y))
pairs.batch("3")  # wrong
pairs.batch(3, drop=True)  # wrong
pairs.shufle(3)  # wrong
pairs.snapshot("folder")  # wrong
pairs.map(3)  # wrong
