"""to_onnx and from_onnx against ONNX Runtime, and files that PyTorch writes."""

import itertools
import warnings

import numpy as np
import pytest
from graph_examples import GRAPHS, OPERATIONS, assert_close, data, predicted
from graph_examples import built as built_graph
from saving_examples import inputs, make, of_keras
from test_layers import CASES, built, randomise

import fastrnn
from fastrnn import layers as L

pytest.importorskip("onnx", reason="needs onnx: pip install 'fastrnn[files]'")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install it")

from onnx import TensorProto, helper  # noqa: E402
from test_onnx import MASKED, has_operator, loop, masked_batch, masked_model, model_of  # noqa: E402


def run(content, inputs):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]
    return session.run(None, inputs if isinstance(inputs, dict) else {names[0]: inputs})


def check(model, x):
    content = fastrnn.to_onnx(model).SerializeToString()
    y = model.predict(x, verbose=0)
    np.testing.assert_allclose(run(content, x)[0], y, rtol=1e-5, atol=5e-6)
    return content


@pytest.mark.parametrize("case", [case for case in CASES if has_operator(case)])
def test_every_layer(case, rng):
    model, x = built(case, rng)
    check(model, x)


@pytest.mark.parametrize("name", MASKED)
def test_any_mask(name, rng):
    model, x = masked_model(name), masked_batch(rng)
    model.predict(x, verbose=0)
    randomise(model, rng)
    check(model, x)


def test_free_batch_and_timesteps(rng):
    model = fastrnn.Sequential(
        [
            L.Embedding(9, 4, mask_zero=True),
            L.Bidirectional(L.LSTM(3, return_sequences=True)),
            L.TimeDistributed(L.Dense(3, "relu")),
            L.GRU(3, recurrent_activation="hard_sigmoid"),
            L.Dense(2, "softmax"),
        ]
    )
    model.predict(np.ones((2, 5), np.int32), verbose=0)
    content = fastrnn.to_onnx(model).SerializeToString()
    for shape in ((1, 1), (3, 8), (6, 2)):
        x = rng.integers(0, 9, shape).astype(np.int32)
        y = model.predict(x, verbose=0)
        np.testing.assert_allclose(run(content, x)[0], y, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(fastrnn.from_onnx(content)(x), y, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", [*GRAPHS, *OPERATIONS])
def test_every_graph(name, rng):
    model = built_graph(name, rng)
    content = fastrnn.to_onnx(model).SerializeToString()
    for free in ((3, 5), (1, 1), (4, 7)):
        x = data(model, rng, free)
        assert_close(
            run(content, dict(zip(model.input_names, x, strict=True))), predicted(model, x)
        )


@pytest.mark.parametrize(
    "activation",
    "linear relu hard_sigmoid hard_sigmoid_keras2 sparse_sigmoid softsign softplus elu leaky_relu"
    .split(),
)  # fmt: skip
def test_activations_within_recurrent_layers(activation, rng):
    x = rng.standard_normal((3, 5, 4)).astype(np.float32)
    for layer in (
        L.Bidirectional(L.LSTM(3, activation, recurrent_activation="hard_sigmoid")),
        L.GRU(3, "tanh", activation),
        L.SimpleRNN(3, activation),
    ):
        model = fastrnn.Sequential([layer])
        model.predict(x, verbose=0)
        check(model, x)


# --- nodes with every attribute ---

NODES = {
    f"{op} {direction} {what}": (op, direction, what)
    for op, direction, what in itertools.product(
        ("LSTM", "GRU", "RNN"),
        ("forward", "reverse", "bidirectional"),
        ("plain", "lengths", "states", "clip", "peepholes", "input_forget", "alpha beta", "reset"),
    )
    if what not in ("peepholes", "input_forget") or op == "LSTM"
    if what != "reset" or op == "GRU"
}
ALPHA_BETA = {"LSTM": ["HardSigmoid", "LeakyRelu", "ScaledTanh"], "GRU": ["HardSigmoid", "Affine"]}


@pytest.mark.parametrize("name", NODES)
def test_nodes(name, rng):
    op, direction, what = NODES[name]
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[op]
    timesteps, batch, features, units = 6, 4, 3, 5
    count = 2 if direction == "bidirectional" else 1
    arrays = {
        "X": rng.standard_normal((timesteps, batch, features)),
        "W": rng.standard_normal((count, gates * units, features)),
        "R": rng.standard_normal((count, gates * units, units)),
        "B": rng.standard_normal((count, 2 * gates * units)),
    }
    arrays = {key: value.astype(np.float32) for key, value in arrays.items()}
    names = [*arrays, "", "", "", ""]
    attributes = {"direction": direction, "hidden_size": units}
    if what == "lengths":
        arrays["lengths"] = np.array([6, 2, 1, 4], np.int32)
        names[4] = "lengths"
    if what == "states":
        for place, state in enumerate(("h0", "c0")[: 2 if op == "LSTM" else 1]):
            arrays[state] = rng.standard_normal((count, batch, units)).astype(np.float32)
            names[5 + place] = state
    if what == "peepholes":
        arrays["P"] = rng.standard_normal((count, 3 * units)).astype(np.float32)
        names[7] = "P"
    if what == "clip":
        attributes["clip"] = 0.4
    if what == "input_forget":
        attributes["input_forget"] = 1
    if what == "reset":
        attributes["linear_before_reset"] = 1
    if what == "alpha beta":
        attributes["activations"] = ALPHA_BETA.get(op, ["LeakyRelu"]) * count
        takers = attributes["activations"]
        attributes["activation_alpha"] = [0.3 + 0.05 * n for n in range(len(takers))]
        with_beta = [name for name in takers if name != "LeakyRelu"]
        if with_beta:
            attributes["activation_beta"] = [0.4 + 0.05 * n for n in range(len(with_beta))]
    while not names[-1]:
        names.pop()
    results = ["Y", "Y_h", "Y_c"][: 3 if op == "LSTM" else 2]
    node = helper.make_node(op, names, results, **attributes)
    inputs = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for n, a in arrays.items()
    ]
    outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in results]
    model = model_of([node], inputs, outputs)
    model.ir_version = 8
    content = model.SerializeToString()
    graph = fastrnn.from_onnx(content)
    for y, wanted in zip(graph(arrays), run(content, arrays), strict=True):
        np.testing.assert_allclose(y, wanted, rtol=1e-4, atol=2e-5)


def test_loop(rng):
    x = rng.standard_normal((4, 2, 3)).astype(np.float32)
    model = loop(4)
    model.ir_version = 8
    content = model.SerializeToString()
    for y, wanted in zip(fastrnn.from_onnx(content)(x), run(content, x), strict=True):
        np.testing.assert_allclose(y, wanted, rtol=1e-5, atol=1e-6)


# --- files that Keras and PyTorch write ---


@pytest.fixture(scope="module")
def keras():
    """With TensorFlow and tf2onnx, by which model.export writes."""
    for name in ("tensorflow", "tf2onnx"):
        pytest.importorskip(name, reason=f"Keras's export needs {name}: pip install {name}")
    return pytest.importorskip("keras", reason="needs keras: pip install keras")


def exported(model, x, path):
    """The model's output and, of what model.export writes, the graph."""
    y = np.asarray(model(x.astype(np.float32)))
    model.export(path, format="onnx", verbose=False)
    return y, fastrnn.from_onnx(path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", of_keras(L))
def test_every_layer_of_keras(name, keras, tmp_path):
    x = inputs(name)
    y, graph = exported(make(keras, name), x, tmp_path / "m.onnx")
    np.testing.assert_allclose(graph(x), y, rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_free_timesteps_of_keras(keras, rng, tmp_path):
    K = keras.layers
    stack = [K.Input((None, 3)), K.LSTM(4, return_sequences=True), K.Dense(2), K.GRU(3)]
    for x in (rng.standard_normal((4, 5, 3)), rng.standard_normal((2, 7, 3))):
        y, graph = exported(keras.Sequential(stack), x, tmp_path / "m.onnx")
        np.testing.assert_allclose(graph(x), y, rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_a_chain_of_keras_becomes_a_sequential(keras, rng, tmp_path):
    K = keras.layers
    stack = [
        K.Input((None,)),
        K.Embedding(20, 4),
        K.Bidirectional(K.LSTM(3, return_sequences=True)),
    ]
    theirs = keras.Sequential([*stack, K.Dropout(0.2), K.LSTM(4), K.Dense(2, "softmax")])
    x = rng.integers(0, 20, (4, 6))
    y, graph = exported(theirs, x, tmp_path / "m.onnx")
    model = graph.to_sequential()
    assert model.count_params() == theirs.count_params() - 2  # a bias of zeros is left out
    np.testing.assert_allclose(model.predict(x, verbose=0), y, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dynamo", [False, True])
def test_files_of_torch(dynamo, rng, tmp_path):
    torch = pytest.importorskip("torch", reason="needs PyTorch: pip install torch")
    if dynamo:
        pytest.importorskip("onnxscript", reason="torch.onnx needs onnxscript: pip install it")
    nn = torch.nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.words = nn.Embedding(20, 4)
            self.lstm = nn.LSTM(4, 3, num_layers=2, bidirectional=True, batch_first=True)
            self.gru = nn.GRU(6, 5, batch_first=True)
            self.norm = nn.Sequential(nn.BatchNorm1d(5), nn.LayerNorm(5))
            self.head = nn.Sequential(nn.Linear(5, 2), nn.Softmax(-1))

        def forward(self, x):
            y, _ = self.gru(self.lstm(self.words(x))[0])
            return self.head(self.norm(y[:, -1]))

    torch.manual_seed(1)
    net = Net().eval()
    x = torch.tensor(rng.integers(0, 20, (4, 7)))
    path = tmp_path / "net.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's own, of its exporters
        if dynamo:
            shapes = ({0: torch.export.Dim("batch")},)
            torch.onnx.export(
                net, (x,), path, dynamo=True, external_data=False, verbose=False,
                dynamic_shapes=shapes,
            )  # fmt: skip
        else:
            torch.onnx.export(
                net, (x,), path, dynamo=False, input_names=["x"],
                dynamic_axes={"x": {0: "batch", 1: "timesteps"}},
            )  # fmt: skip
    graph = fastrnn.from_onnx(path)
    model = graph.to_sequential()
    sizes = [(4, 7), (2, 7)] if dynamo else [(4, 7), (2, 3)]
    for shape in sizes:
        x = rng.integers(0, 20, shape)
        with torch.no_grad():
            y = net(torch.tensor(x)).numpy()
        np.testing.assert_allclose(graph(x), y, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(model.predict(x, verbose=0), y, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(run(path, x)[0], y, rtol=1e-5, atol=1e-6)


# --- graphs of other writers, which become models ---


def assert_becomes_a_model(path, x, y, kinds, sizes):
    """x: a function of (batch, timesteps) that makes inputs; y: a function of these."""
    model = fastrnn.from_onnx(path).to_model()
    assert sorted(type(layer).__name__ for layer in model.layers if layer.weights) == sorted(kinds)
    for free in sizes:
        inputs = x(*free)
        found = model.predict(inputs if len(inputs) > 1 else inputs[0], verbose=0)
        expected = y(*inputs)
        assert_close(found if isinstance(found, list) else [found], expected)
    return model


def torch_graphs(torch):
    """name: (module, function that makes its inputs, classes of layers with weights)."""
    nn = torch.nn

    class TwoInputs(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(3, 5, batch_first=True)
            self.fixed, self.mix = nn.Linear(4, 3), nn.Linear(8, 6)
            self.value, self.kind = nn.Linear(6, 2), nn.Linear(6, 3)

        def forward(self, series, static):
            _, (h, _) = self.lstm(series)
            x = torch.cat([h[-1], torch.relu(self.fixed(static))], -1)
            x = torch.relu(self.mix(x))
            return self.value(x), torch.softmax(self.kind(x), -1)

    class EncoderDecoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.source, self.target = nn.Embedding(9, 3), nn.Embedding(8, 3)
            self.encoder = nn.LSTM(3, 4, batch_first=True)
            self.decoder = nn.LSTM(3, 4, batch_first=True)
            self.out = nn.Linear(4, 8)

        def forward(self, a, b):
            _, states = self.encoder(self.source(a))
            y, _ = self.decoder(self.target(b), states)
            return torch.softmax(self.out(y), -1)

    class Pooled(nn.Module):
        """Attention over a bidirectional LSTM's steps, as a weighted mean."""

        def __init__(self):
            super().__init__()
            self.words = nn.Embedding(9, 4)
            self.rnn = nn.LSTM(4, 3, batch_first=True, bidirectional=True)
            self.score, self.out = nn.Linear(6, 1), nn.Linear(6, 2)

        def forward(self, a):
            y, _ = self.rnn(self.words(a))
            shares = torch.softmax(torch.tanh(self.score(y)), 1)
            return torch.sigmoid(self.out((shares * y).sum(1)))

    class Attended(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.LSTM(4, 3, batch_first=True, bidirectional=True)
            self.query, self.out = nn.Linear(4, 6), nn.Linear(6, 2)

        def forward(self, x):
            y, _ = self.rnn(x)
            return self.out(torch.softmax(self.query(x) @ y.transpose(1, 2), -1) @ y)

    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.GRU(4, 4, batch_first=True)
            self.norm = nn.LayerNorm(4)
            self.second = nn.GRU(4, 2, batch_first=True, bidirectional=True)
            self.out = nn.Linear(4, 2)

        def forward(self, x):
            y = self.norm(x + self.first(x)[0])
            y = y + self.second(y)[0]
            return self.out(y.mean(1))

    def numbers(*features):
        return lambda rng, batch, steps: [
            rng.standard_normal((batch, steps, n) if n == features[0] else (batch, n)).astype("f")
            for n in features
        ]

    def words(*limits):
        return lambda rng, batch, steps: [rng.integers(0, n, (batch, steps)) for n in limits]

    return {
        "two inputs": (TwoInputs, numbers(3, 4), ["LSTM", *["Dense"] * 4]),
        "encoder, decoder": (
            EncoderDecoder, words(9, 8), ["Embedding", "Embedding", "LSTM", "LSTM", "Dense"],
        ),
        "pooled": (Pooled, words(9), ["Embedding", "Bidirectional", "Dense", "Dense"]),
        "attended": (Attended, numbers(4), ["Bidirectional", "Dense", "Dense"]),
        "residual": (Residual, numbers(4), ["GRU", "LayerNormalization", "Bidirectional", "Dense"]),
    }  # fmt: skip


@pytest.mark.parametrize("dynamo", [False, True])
@pytest.mark.parametrize(
    "name", ["two inputs", "encoder, decoder", "pooled", "attended", "residual"]
)
def test_graphs_of_torch_become_models(name, dynamo, rng, tmp_path):
    torch = pytest.importorskip("torch", reason="needs PyTorch: pip install torch")
    if dynamo:
        pytest.importorskip("onnxscript", reason="torch.onnx needs onnxscript: pip install it")
    torch.manual_seed(1)
    make, inputs, kinds = torch_graphs(torch)[name]
    net, path = make().eval(), tmp_path / "net.onnx"
    x = [torch.tensor(array) for array in inputs(rng, 3, 5)]
    names = [f"in{n}" for n in range(len(x))]
    sequences = [array.ndim > 2 or array.dtype == torch.int64 for array in x]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's own, of its exporters
        if dynamo:
            auto = torch.export.Dim.AUTO
            shapes = tuple({0: auto, 1: auto} if seq else {0: auto} for seq in sequences)
            torch.onnx.export(
                net, tuple(x), path, dynamo=True, external_data=False, verbose=False,
                dynamic_shapes=shapes,
            )  # fmt: skip
        else:
            axes = {
                name: {0: "batch", 1: f"steps of {name}"} if seq else {0: "batch"}
                for name, seq in zip(names, sequences, strict=True)
            }
            torch.onnx.export(
                net, tuple(x), path, dynamo=False, input_names=names, dynamic_axes=axes
            )

    def outputs(*arrays):
        with torch.no_grad():
            y = net(*map(torch.tensor, arrays))
        return [part.numpy() for part in (y if isinstance(y, tuple) else [y])]

    assert_becomes_a_model(path, lambda *free: inputs(rng, *free), outputs, kinds, [(2, 3), (4, 8)])


def keras_graphs(K):
    """name: (inputs and outputs, classes of layers with weights)."""

    def two_inputs():
        series, static = K.Input((None, 3)), K.Input((4,))
        x = K.Concatenate()([K.LSTM(5)(series), K.Dense(3, "relu")(static)])
        x = K.Dense(6, "relu")(x)
        return [series, static], [K.Dense(2)(x), K.Dense(3, "softmax")(x)]

    def encoder_decoder():
        a, b = K.Input((None,), dtype="int32"), K.Input((None,), dtype="int32")
        _, *states = K.LSTM(4, return_state=True)(K.Embedding(9, 3)(a))
        y = K.LSTM(4, return_sequences=True)(K.Embedding(8, 3)(b), initial_state=states)
        return [a, b], [K.Dense(8, "softmax")(y)]

    def attended():
        a = K.Input((None,), dtype="int32")
        y = K.Bidirectional(K.LSTM(3, return_sequences=True))(K.Embedding(8, 4)(a))
        y = K.GlobalAveragePooling1D()(K.Attention()([y, y]))
        return [a], [K.Dense(2, "sigmoid")(y)]

    def residual():
        x = K.Input((None, 4))
        y = K.LSTM(4, return_sequences=True)(x)
        y = K.LayerNormalization()(K.Add()([x, y]))
        y = K.Add()([y, K.Bidirectional(K.LSTM(2, return_sequences=True))(y)])
        return [x], [K.Dense(2)(K.GlobalMaxPooling1D()(y))]

    return {
        "two inputs": (two_inputs, ["LSTM", *["Dense"] * 4]),
        "encoder, decoder": (
            encoder_decoder, ["Embedding", "Embedding", "LSTM", "LSTM", "Dense"],
        ),
        "attended": (attended, ["Embedding", "Bidirectional", "Dense"]),
        "residual": (residual, ["LSTM", "LayerNormalization", "Bidirectional", "Dense"]),
    }  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["two inputs", "encoder, decoder", "attended", "residual"])
def test_graphs_of_keras_become_models(name, keras, rng, tmp_path):
    make, kinds = keras_graphs(keras.layers)[name]
    starts, ends = make()
    theirs, path = keras.Model(starts, ends), tmp_path / "m.onnx"

    def inputs(batch, steps):
        shapes = [[n or (batch, steps)[min(i, 1)] for i, n in enumerate(t.shape)] for t in starts]
        return [
            rng.integers(0, 8, shape).astype("int32")
            if tensor.dtype == "int32"
            else rng.standard_normal(shape).astype("f")
            for tensor, shape in zip(starts, shapes, strict=True)
        ]

    def outputs(*arrays):
        y = theirs(list(arrays))
        return [np.asarray(part) for part in (y if isinstance(y, list) else [y])]

    outputs(*inputs(2, 5))
    theirs.export(path, format="onnx", verbose=False)
    assert_becomes_a_model(path, inputs, outputs, kinds, [(2, 3), (4, 8)])
