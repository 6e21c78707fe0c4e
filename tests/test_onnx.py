"""to_onnx and from_onnx: ONNX's own node tests, its checker and reference, hostile files."""

import contextlib
import importlib
import os
import pkgutil
import time
import tracemalloc
import warnings

import numpy as np
import pytest
from graph_examples import attention_pooling
from hypothesis import given, settings
from hypothesis import strategies as st
from test_layers import CASES, built, randomise

import fastrnn
from fastrnn import layers as L

pytest.importorskip("onnx", reason="needs onnx: pip install 'fastrnn[files]'")

import onnx  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

from fastrnn.interop.onnx_operators import OPERATORS  # noqa: E402
from fastrnn.interop.onnx_recurrent import GATES  # noqa: E402

# --- ONNX's backend node tests ---

UNREAD = """
    int16 uint16 uint32 uint64 float16 FLOAT16 FLOAT8 FLOAT4 INT4 INT2 equal_string fp16 training
    2d_ceil ceil_mode_is_True averagepool_2d_dilations averagepool_3d_dilations_small
    use_ref_impl_large with_argmax max_empty_set min_empty_set identity_sequence identity_opt loop13
    loop16 not_2d not_3d not_4d edge_pad reflect_pad wrap_pad
""".split()


def node_tests():
    """name -> case, of those whose operators from_onnx has."""
    from onnx.backend.test.case import node

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some cases overflow while they are made
        for module in pkgutil.iter_modules(node.__path__):
            importlib.import_module(f"{node.__name__}.{module.name}")
    known = {*OPERATORS, *GATES, "Constant", "Loop"}
    return {
        case.name: case
        for case in node._NodeTestCases
        if {entry.op_type for entry in case.model.graph.node} <= known
        and not case.name.endswith("_expanded")
    }


NODE_TESTS = node_tests()
READ = [name for name in NODE_TESTS if not any(word in name for word in UNREAD)]


def outputs_of_node_test(case):
    graph = fastrnn.from_onnx(case.model.SerializeToString())
    for data in case.data_sets:
        inputs, expected = (
            [numpy_helper.to_array(x) if isinstance(x, TensorProto) else x for x in arrays]
            for arrays in data
        )
        outputs = graph(dict(zip(graph.inputs, inputs, strict=True)))
        outputs = outputs if isinstance(outputs, list) else [outputs]
        yield from zip(outputs, expected, strict=True)


@pytest.mark.parametrize("name", READ)
def test_node(name):
    for y, wanted in outputs_of_node_test(NODE_TESTS[name]):
        assert y.shape == wanted.shape and y.dtype == wanted.dtype
        np.testing.assert_allclose(y, wanted, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", sorted(set(NODE_TESTS) - set(READ)))
def test_other_nodes_are_refused(name):
    """Data types and modes that from_onnx does not have."""
    with pytest.raises(ValueError):
        list(outputs_of_node_test(NODE_TESTS[name]))


def test_node_tests_are_many():
    assert len(READ) > 400
    for kind, count in {"lstm": 6, "gru": 6, "rnn": 6}.items():
        assert sum(kind in name for name in READ) >= count


# --- every layer, through the checker and back ---

WITHOUT_OPERATOR = "gelu", "silu"  # of recurrent layers: ONNX's do not have these activations
# What onnx.reference does not compute: activations of LSTM, and MaxPool without padding.
NOT_IN_REFERENCE = (
    "lstm hard", "bidirectional two layers", "max pooling first", "max pooling of images first"
)  # fmt: skip


def has_operator(case):
    recurrent = any(kind in case for kind in ("lstm", "gru", "rnn", "bidirectional"))
    return not (recurrent and any(name in case for name in WITHOUT_OPERATOR))


@pytest.mark.parametrize("case", CASES)
def test_every_layer(case, rng):
    model, x = built(case, rng)
    if not has_operator(case):
        with pytest.raises(ValueError, match=r"layer '.*activation '(gelu|silu)'"):
            fastrnn.to_onnx(model)
        return
    proto = fastrnn.to_onnx(model)
    onnx.checker.check_model(proto, full_check=True)
    y = model.predict(x, verbose=0)
    graph = fastrnn.from_onnx(proto.SerializeToString())
    np.testing.assert_allclose(graph(x), y, rtol=1e-5, atol=1e-6)
    if case not in NOT_IN_REFERENCE:
        (wanted,) = ReferenceEvaluator(proto).run(None, {"input": x})
        np.testing.assert_allclose(y, wanted, rtol=1e-5, atol=1e-5)


MASKED = {
    f"{kind.__name__} {name}": (kind, make)
    for kind in (L.LSTM, L.GRU, L.SimpleRNN)
    for name, make in {
        "last": lambda rnn: rnn(),
        "backwards": lambda rnn: rnn(go_backwards=True),
        "sequences": lambda rnn: rnn(return_sequences=True),
        "sequences backwards": lambda rnn: rnn(return_sequences=True, go_backwards=True),
        "zero output": lambda rnn: rnn(return_sequences=True, zero_output_for_mask=True),
        "zero last": lambda rnn: rnn(zero_output_for_mask=True),
        "zero last backwards": lambda rnn: rnn(zero_output_for_mask=True, go_backwards=True),
        "bidirectional": lambda rnn: L.Bidirectional(rnn(return_sequences=True)),
        "bidirectional sum": lambda rnn: L.Bidirectional(rnn(), merge_mode="sum"),
    }.items()
}


def masked_batch(rng):
    """Sequences with steps masked nowhere, everywhere, at the end, at the start, anywhere."""
    mask = rng.random((9, 6)) < 0.5
    mask[0], mask[1] = True, False
    mask[2], mask[3] = np.arange(6) < 3, np.arange(6) > 1
    return np.where(mask[..., None], rng.standard_normal((9, 6, 3)), 0).astype(np.float32)


def masked_model(name):
    kind, make = MASKED[name]
    model = fastrnn.Sequential([L.Masking(), make(lambda **options: kind(4, **options))])
    if "sequences" in name or name.endswith("bidirectional"):
        model.add(L.LSTM(2))  # sees the mask that the layer below passes on
    return model


@pytest.mark.parametrize("name", MASKED)
def test_any_mask_becomes_part_of_the_graph(name, rng):
    model, x = masked_model(name), masked_batch(rng)
    model.predict(x, verbose=0)
    randomise(model, rng)
    graph = fastrnn.from_onnx(fastrnn.to_onnx(model).SerializeToString())
    np.testing.assert_allclose(graph(x), model.predict(x, verbose=0), rtol=1e-5, atol=1e-6)


def test_batch_and_timesteps_are_free(rng, tmp_path):
    model = fastrnn.Sequential([L.Embedding(9, 4), L.Bidirectional(L.LSTM(3)), L.Dense(2)])
    model.predict(np.zeros((2, 5), np.int32), verbose=0)
    fastrnn.to_onnx(model, tmp_path / "model.onnx")
    graph = fastrnn.from_onnx(tmp_path / "model.onnx")
    assert (graph.inputs, graph.outputs) == (["input"], ["output"])
    for shape in ((1, 1), (3, 8)):
        x = rng.integers(0, 9, shape).astype(np.int32)
        y = model.predict(x, verbose=0)
        for inputs in (x, [x], {"input": x}):
            np.testing.assert_allclose(graph.predict(inputs), y, rtol=1e-5, atol=1e-6)


CHAINS = {
    "embedding, both ways, gru": (
        lambda: [
            L.Input((None,)), L.Embedding(9, 4), L.Bidirectional(L.LSTM(3, return_sequences=True)),
            L.GRU(4), L.Dense(2, "softmax"),
        ],
        ["Embedding", "Bidirectional", "GRU", "Dense", "Activation"],
    ),
    "sequences": (
        lambda: [
            L.Input((None, 3)), L.SimpleRNN(4, return_sequences=True),
            L.GRU(2, reset_after=False, return_sequences=True), L.LeakyReLU(0.1),
        ],
        ["SimpleRNN", "GRU", "LeakyReLU"],
    ),
    "backwards": (
        lambda: [L.Input((4, 3)), L.LSTM(3, go_backwards=True), L.Dense(2, use_bias=False)],
        ["LSTM", "Dense"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CHAINS)
def test_graphs_that_become_a_sequential(name, rng, tmp_path):
    stack, classes = CHAINS[name]
    model = fastrnn.Sequential(stack())
    randomise(model, rng)
    fastrnn.to_onnx(model, tmp_path / "m.onnx")
    twin = fastrnn.from_onnx(tmp_path / "m.onnx").to_sequential()
    assert [type(layer).__name__ for layer in twin.layers] == classes
    assert twin.input_shape == model.input_shape
    shape = [n or 4 for n in model.input_shape]
    x = rng.integers(0, 9, shape) if len(shape) == 2 else rng.standard_normal(shape)
    y = model.predict(x, verbose=0)
    np.testing.assert_allclose(twin.predict(x, verbose=0), y, rtol=1e-5, atol=1e-6)
    twin.compile("adam", "mse")
    before = twin.evaluate(x, np.zeros_like(y), verbose=0)
    twin.fit(x, np.zeros_like(y), epochs=5, verbose=0)
    assert twin.evaluate(x, np.zeros_like(y), verbose=0) < before


@pytest.mark.parametrize(
    ("stack", "words"),
    [
        ([L.Masking(), L.LSTM(2)], r"node '.*' \(\w+\): no layer does this"),
        ([L.Bidirectional(L.LSTM(2), merge_mode="sum")], r"\(Add\): no layer does this"),
        ([L.LSTM(2), L.RepeatVector(2)], "its layers in a chain are off by"),
        ([L.Reshape((12,))], "has no layers"),
    ],
    ids=["mask", "merge", "repeat", "none"],
)
def test_graphs_that_become_none(stack, words):
    model = fastrnn.Sequential([L.Input((4, 3)), *stack])
    graph = fastrnn.from_onnx(fastrnn.to_onnx(model).SerializeToString())
    with pytest.raises(ValueError, match=f"{words}.*predict runs other graphs too"):
        graph.to_sequential()


def test_what_onnx_lacks_names_the_layer():
    for layer, words in (
        (L.LSTM(2, stateful=True, name="mine"), "'mine'.*stateful"),
        (
            L.Bidirectional(L.LSTM(2, go_backwards=True), backward_layer=L.LSTM(2), name="mine"),
            "'mine'.*go_backwards",
        ),
        (L.Dense(2, "sparsemax", name="mine"), "'mine'.*sparsemax"),
        (L.Dense(2, lambda x: x, name="mine"), "'mine'.*activation"),
    ):
        with pytest.raises(ValueError, match=words):
            fastrnn.to_onnx(fastrnn.Sequential([L.Input((3, 2)), layer]))
    with pytest.raises(ValueError, match="expected a Sequential"):
        fastrnn.to_onnx(L.LSTM(2))


# --- LSTM with what Keras does not have, against the definition in float64 ---

FUNCTIONS = {
    "Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "Tanh": np.tanh,
    "Relu": lambda x: np.maximum(x, 0),
    "LeakyRelu": lambda x: np.where(x < 0, 0.3 * x, x),
    "HardSigmoid": lambda x: np.clip(0.3 * x + 0.4, 0, 1),
}
SPECIAL = {
    "peepholes": {},
    "clip": {"clip": 0.2},
    "input_forget": {"input_forget": 1},
    "activations": {
        "activations": ["HardSigmoid", "LeakyRelu", "Relu"],
        "activation_alpha": [0.3, 0.3],
        "activation_beta": [0.4],
    },
}


@pytest.mark.parametrize("special", SPECIAL)
def test_lstm_beyond_keras(special, rng):
    attributes = SPECIAL[special]
    timesteps, batch, features, units = 5, 4, 3, 2
    lengths = np.array([5, 3, 0, 1], np.int32)
    shapes = {
        "X": (timesteps, batch, features),
        "W": (1, 4 * units, features),
        "R": (1, 4 * units, units),
        "B": (1, 8 * units),
        "initial_h": (1, batch, units),
        "initial_c": (1, batch, units),
        "P": (1, 3 * units),
    }
    arrays = {name: rng.standard_normal(shape).astype("f") for name, shape in shapes.items()}
    if special != "peepholes":
        arrays["P"][:] = 0
    arrays["sequence_lens"] = lengths
    names = ["X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P"]
    node = helper.make_node("LSTM", names, ["Y", "Y_h", "Y_c"], hidden_size=units, **attributes)
    declared = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for n, a in arrays.items()
    ]
    results = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in node.output]
    graph = fastrnn.from_onnx(model_of([node], declared, results).SerializeToString())
    y, y_h, y_c = graph(arrays)

    gate, cell, out = (
        FUNCTIONS[name] for name in attributes.get("activations", ["Sigmoid", "Tanh", "Tanh"])
    )
    limit = attributes.get("clip", np.inf)
    a = {name: np.asarray(array, np.float64) for name, array in arrays.items()}
    bias = a["B"][0, : 4 * units] + a["B"][0, 4 * units :]
    p_i, p_o, p_f = np.split(a["P"][0], 3)
    for b, length in enumerate(lengths):
        h, c = a["initial_h"][0, b], a["initial_c"][0, b]
        for t in range(length):
            i, o, f, g = np.split(a["W"][0] @ a["X"][t, b] + a["R"][0] @ h + bias, 4)
            i = gate(np.clip(i + p_i * c, -limit, limit))
            f = gate(np.clip(f + p_f * c, -limit, limit))
            if attributes.get("input_forget"):
                f = 1 - i
            c = f * c + i * cell(np.clip(g, -limit, limit))
            o = gate(np.clip(o + p_o * c, -limit, limit))
            h = o * out(c)
            np.testing.assert_allclose(y[t, 0, b], h, rtol=1e-4, atol=1e-5)
        assert not y[length:, 0, b].any()
        np.testing.assert_allclose(y_h[0, b], h, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(y_c[0, b], c, rtol=1e-4, atol=1e-5)


# --- Loop: what tf2onnx makes of Keras's GRU, and of any recurrent layer with a mask ---


def loop(stop):
    """h = tanh(x[t] + h * w) for t below `stop`: the last h, and each h."""
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Gather", ["x", "t"], ["x_t"]),
            helper.make_node("Mul", ["h", "w"], ["hw"]),
            helper.make_node("Add", ["x_t", "hw"], ["z"]),
            helper.make_node("Tanh", ["z"], ["h_next"]),
            helper.make_node("Identity", ["h_next"], ["h_t"]),
            helper.make_node("Identity", ["go"], ["go_on"]),
        ],
        "body",
        [value("t", TensorProto.INT64, []), value("go", TensorProto.BOOL, [])]
        + [value("h", TensorProto.FLOAT, None)],
        [value("go_on", TensorProto.BOOL, [])]
        + [value(name, TensorProto.FLOAT, None) for name in ("h_next", "h_t")],
        [numpy_helper.from_array(np.float32([0.5, -1, 2]), "w")],
    )
    constants = [
        numpy_helper.from_array(np.zeros((2, 3), np.float32), "h0"),
        numpy_helper.from_array(np.array(stop), "stop"),
        numpy_helper.from_array(np.array(True), "start"),
    ]
    node = helper.make_node("Loop", ["stop", "start", "h0"], ["last", "all"], "the_node", body=body)
    x = value("x", TensorProto.FLOAT, [None, 2, 3])
    outputs = [value(name, TensorProto.FLOAT, None) for name in ("last", "all")]
    return model_of([node], [x], outputs, constants)


def test_loop(rng):
    x = rng.standard_normal((4, 2, 3)).astype(np.float32)
    last, every = fastrnn.from_onnx(loop(4).SerializeToString())(x)
    h = np.zeros((2, 3))
    for t in range(4):
        h = np.tanh(x[t] + h * [0.5, -1, 2])
        np.testing.assert_allclose(every[t], h, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(last, every[3])
    with pytest.raises(ValueError, match="'the_node'.*indices|index"):
        fastrnn.from_onnx(loop(5).SerializeToString())(x)


@pytest.mark.parametrize("size", [1, 2000])
def test_loop_without_end(size):
    """Its body cannot fail by itself. It took 25 s of a CPU before it was refused, and with large
    arrays far longer."""
    model = loop(2**62)
    gather, scale, *_ = model.graph.node[0].attribute[0].g.node
    gather.op_type, scale.op_type = "Identity", "Add"
    del gather.input[1:]
    x = np.zeros((1, 2, 3), np.float32)
    graph = fastrnn.from_onnx(model.SerializeToString(), memory_limit=2**14)
    with pytest.raises(ValueError, match="'the_node'.*memory_limit"):
        graph(x)
    body = model.graph.node[0].attribute[0].g
    shape = numpy_helper.from_array(np.array([size, size]), "shape")
    body.initializer.append(shape)
    body.node.append(helper.make_node("ConstantOfShape", ["shape"], ["filled"]))
    graph = fastrnn.from_onnx(model.SerializeToString())
    start = time.process_time()
    with pytest.raises(ValueError, match="'the_node'.*beyond the work of 131264 nodes"):
        graph(x)
    assert time.process_time() - start < 10


def test_loop_without_end_beside_a_large_array():
    """The work goes by the steps that come in and by their bytes, not by the numbers: that was
    hours."""
    model = loop(2**62)
    for axis, size in ((1, 64), (2, 40)):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = size
    gather, scale, *_ = model.graph.node[0].attribute[0].g.node
    gather.op_type, scale.op_type = "Identity", "Add"
    gather.input[:] = ["h0"]
    graph = fastrnn.from_onnx(model.SerializeToString())
    start = time.process_time()
    with pytest.raises(ValueError, match="'the_node'.*beyond the work of 274944 nodes"):
        graph(np.zeros((1000, 64, 40), np.float32))
    assert time.process_time() - start < 20


def test_a_long_loop_over_long_sequences():
    steps = 20_000
    x = np.zeros((steps, 2, 3), np.float32)
    last, _ = fastrnn.from_onnx(loop(steps).SerializeToString())(x)
    np.testing.assert_array_equal(last, np.zeros((2, 3)))


@pytest.mark.parametrize(
    ("op", "options", "message"),
    [
        ("Pad", {"mode": "reflect", "inputs": ("x", "pads")}, "mode: only constant.*'reflect'"),
        ("MaxPool", {"ceil_mode": 1, "kernel_shape": [2]}, "ceil_mode: only 0"),
        ("AveragePool", {"ceil_mode": 1, "kernel_shape": [2]}, "ceil_mode: only 0"),
        ("MaxPool", {"kernel_shape": [0]}, "kernel_shape: expected sizes >= 1"),
        ("MaxPool", {"kernel_shape": [2], "strides": [0]}, "strides: expected sizes >= 1"),
        ("Cast", {"to": TensorProto.STRING}, "to: data type 8"),
        ("ReverseSequence", {"time_axis": 2, "inputs": ("x", "pads")}, "batch_axis and time_axis"),
        ("MaxPool", {"kernel_shape": [2], "pads": [-1, 0]}, "pads: expected two sizes >= 0"),
        ("MaxPool", {"kernel_shape": [2], "pads": [1]}, "pads: expected two sizes >= 0"),
        ("MaxPool", {"kernel_shape": [2, 2], "strides": [1]}, "kernel_shape, .* of as many axes"),
        ("MaxPool", {"kernel_shape": [2], "auto_pad": "SAME"}, "auto_pad: expected one of"),
        (
            "Gelu",
            {"opset": 20, "approximate": "erf"},
            "approximate: expected one of .*'none', 'tanh'",
        ),
        ("Transpose", {"perm": [0, 0]}, "perm: expected each axis once"),
        ("Mish", {"opset": 17}, "opset 17 has no such operator"),
        ("Gelu", {"opset": 13}, "opset 13 has no such operator"),
    ],
)
def test_what_is_known_when_loading(op, options, message):
    """These were found at the first call."""
    constants = [numpy_helper.from_array(np.zeros(2, np.int64), "pads")]
    model = one_node(op, constants=constants, **options)
    with pytest.raises(ValueError, match=f"'the_node' \\({op}\\): {message}"):
        fastrnn.from_onnx(model.SerializeToString())


def test_several_outputs_that_are_not_computed():
    model = one_node("MaxPool", kernel_shape=[2])
    model.graph.node[0].output.append("indices")
    with pytest.raises(ValueError, match="'the_node' .*output 1 is not supported"):
        fastrnn.from_onnx(model.SerializeToString())


# --- files that are refused ---


def model_of(nodes, inputs, outputs, constants=(), opset=17):
    graph = helper.make_graph(list(nodes), "g", list(inputs), list(outputs), list(constants))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


def one_node(op, *, constants=(), inputs=("x",), opset=17, domain="", **attributes):
    node = helper.make_node(op, list(inputs), ["y"], "the_node", domain=domain, **attributes)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, None)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    return model_of([node], [x], [y], constants, opset)


def tensor(**fields):
    """A sound 2 x 2 tensor with some of its fields set otherwise."""
    proto = numpy_helper.from_array(np.ones((2, 2), np.float32), "w")
    for name, value in fields.items():
        if isinstance(value, list):
            del getattr(proto, name)[:]
            getattr(proto, name).extend(value)
        else:
            setattr(proto, name, value)
    return proto


def external(location):
    proto = tensor(data_location=TensorProto.EXTERNAL)
    proto.ClearField("raw_data")
    entry = proto.external_data.add()
    entry.key, entry.value = "location", location
    return proto


def adds(weight):
    return one_node("Add", inputs=("x", "w"), constants=[weight])


HOSTILE = {
    "external": (lambda: adds(external("../secret")), "'w'.*external"),
    "absolute": (lambda: adds(external("/etc/hostname")), "'w'.*external"),
    "huge shape": (lambda: adds(tensor(dims=[2**40, 2**20])), "'w'.*needs"),
    "negative shape": (lambda: adds(tensor(dims=[-1, -4])), "'w'.*shape"),
    "short": (lambda: adds(tensor(raw_data=b"\0" * 15)), "'w'.*needs 16 bytes"),
    "twice": (lambda: adds(tensor(float_data=[1.0] * 4)), "'w'.*raw_data"),
    "strings": (lambda: adds(tensor(data_type=TensorProto.STRING)), "'w'.*data type"),
    "operator": (lambda: one_node("If"), r"'the_node' \(If\).*not supported"),
    "domain": (lambda: one_node("Relu", domain="com.evil"), r"'the_node' \(Relu\).*com.evil"),
    "attribute": (lambda: one_node("Relu", alpha=1.0), r"'the_node' \(Relu\).*'alpha'"),
    "attribute type": (lambda: one_node("Softmax", axis=1.5), r"'the_node'.*'axis'"),
    "inputs": (lambda: one_node("Relu", inputs=("x", "x")), r"'the_node'.*at most 1 inputs"),
    "no input": (lambda: one_node("MatMul"), r"'the_node'.*needs the input 'B'"),
    "unknown": (lambda: one_node("Relu", inputs=("z",)), r"'the_node'.*\['z'\]"),
    "opset": (lambda: one_node("Relu", opset=5), "opset.*5"),
    "future": (lambda: one_node("Relu", opset=10**6), "opset"),
    "activation": (
        lambda: one_node("LSTM", inputs=("x",) * 3, activations=["Evil"] * 3),
        "'the_node'.*'Evil'",
    ),
    "two weights": (
        lambda: one_node("Add", inputs=("x", "w"), constants=[tensor(), tensor()]),
        "two initializers",
    ),
    "empty": (onnx.ModelProto, "opset: expected one version"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused(name):
    """Among them a tensor that has two sets of values, one to be seen and one to be used."""
    make, words = HOSTILE[name]
    with pytest.raises(ValueError, match=words):
        fastrnn.from_onnx(make().SerializeToString())


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(OSError):
        fastrnn.from_onnx(tmp_path / "absent.onnx")
    (tmp_path / "text.onnx").write_text("no protobuf")
    with pytest.raises(ValueError, match="not a sound ONNX file"):
        fastrnn.from_onnx(tmp_path / "text.onnx")


def test_inputs_that_do_not_fit():
    model = fastrnn.Sequential([L.Input((4, 3)), L.LSTM(2)])
    graph = fastrnn.from_onnx(fastrnn.to_onnx(model).SerializeToString())
    with pytest.raises(ValueError, match=r"'input'.*\(None, 4, 3\).*\(2, 4, 5\)"):
        graph(np.zeros((2, 4, 5)))
    with pytest.raises(ValueError, match="expected 1 arrays"):
        graph([np.zeros((2, 4, 3)), np.zeros(2)])
    with pytest.raises(ValueError, match="'input'"):
        graph({"other": np.zeros((2, 4, 3))})
    with pytest.raises(ValueError, match="'input'.*float32"):
        graph(np.array([["a"]]))


def test_a_run_stays_within_its_memory_limit():
    """Each node squares the size; the file itself is small."""
    shape = numpy_helper.from_array(np.array([2**14, 2**14, 2**14]), "w")
    for model in (
        one_node("Expand", inputs=("x", "w"), constants=[shape]),
        one_node("ConstantOfShape", inputs=("w",), constants=[shape]),
    ):
        graph = fastrnn.from_onnx(model.SerializeToString(), memory_limit=2**24)
        with pytest.raises(ValueError, match="'the_node'.*memory_limit"):
            graph(np.ones((1, 1, 1)))


# --- mutated files ---

LIMIT = 2**22


def seeds():
    rng = np.random.default_rng(5)
    for layers, x in (
        ([L.Embedding(9, 4), L.Bidirectional(L.LSTM(3)), L.Dense(2, "softmax")], np.ones((2, 4))),
        ([L.Masking(), L.GRU(2, return_sequences=True), L.LSTM(2)], rng.random((2, 4, 3))),
        ([L.Conv1D(2, 2), L.BatchNormalization(), L.Flatten(), L.Dense(2)], rng.random((2, 4, 3))),
    ):
        model = fastrnn.Sequential(layers)
        model.predict(x, verbose=0)
        yield fastrnn.to_onnx(model).SerializeToString(), x
    yield loop(4).SerializeToString(), rng.random((4, 2, 3))
    yield fastrnn.to_onnx(attention_pooling()).SerializeToString(), np.ones((2, 4), np.int32)


SEEDS = list(seeds())
NUMBERS = st.sampled_from([-(2**63), -(2**31), -1, 0, 1, 2, 3, 7, 2**16, 2**31 - 1, 2**40, 2**62])


def try_to_run(content, x, chain=False):
    """Load, perhaps make models, run; only ValueError and so much memory are allowed."""
    tracemalloc.start()
    try:
        graph = fastrnn.from_onnx(content, memory_limit=LIMIT)
        if chain:
            with contextlib.suppress(ValueError):
                graph.to_model()
            graph.to_sequential()
        graph(x)
    except ValueError as error:
        assert str(error)
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 8 * LIMIT + 64 * len(content)


@settings(max_examples=1500)
@given(st.data())
def test_mutated_bytes(data):
    content, x = data.draw(st.sampled_from(SEEDS))
    content = bytearray(content)
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content))) :]
    for _ in range(data.draw(st.integers(0, 4))):
        if content:
            place = data.draw(st.integers(0, len(content) - 1))
            content[place] = data.draw(st.integers(0, 255))
    try_to_run(bytes(content), x)


@settings(max_examples=1500)
@given(st.data())
def test_mutated_graphs(data):
    """Sound protobuf with numbers, names and operators that do not belong there."""
    content, x = data.draw(st.sampled_from(SEEDS))
    model = onnx.ModelProto.FromString(content)
    graph = model.graph
    if graph.node[0].op_type == "Loop" and data.draw(st.booleans()):
        graph = graph.node[0].attribute[0].g
    names = [name for node in graph.node for name in (*node.input, *node.output)]
    for _ in range(data.draw(st.integers(1, 3))):
        node = data.draw(st.sampled_from(list(graph.node)))
        constant = data.draw(st.sampled_from(list(graph.initializer)))
        change = data.draw(st.integers(0, 6))
        if change == 0 and node.attribute:
            attribute = data.draw(st.sampled_from(list(node.attribute)))
            attribute.i = data.draw(NUMBERS)
            attribute.ints[:] = [data.draw(NUMBERS) for _ in attribute.ints]
        elif change == 1:
            constant.dims[:] = data.draw(st.lists(NUMBERS, max_size=4))
        elif change == 2 and constant.data_type == TensorProto.INT64:
            count = len(constant.raw_data) // 8
            numbers = np.array([data.draw(NUMBERS) for _ in range(count)], np.int64)
            constant.raw_data = numbers.tobytes()
        elif change == 3 and node.input:
            node.input[data.draw(st.integers(0, len(node.input) - 1))] = data.draw(
                st.sampled_from(["", *names])
            )
        elif change == 4:
            node.op_type = data.draw(st.sampled_from([n.op_type for n in graph.node]))
        elif change == 5:
            constant.data_type = data.draw(st.integers(0, 20))
        else:
            graph.input[0].type.tensor_type.elem_type = data.draw(st.integers(0, 20))
    try_to_run(model.SerializeToString(), x, chain=data.draw(st.integers(0, 3)) == 0)


def place(kind, folder):
    """Where a hostile file says that its weights are: a location, of a file with a secret."""
    (folder / "secret").write_bytes(b"password" * 2)
    inside = folder / "inside"
    inside.mkdir()
    if kind == "symbolic link":
        (inside / "weights").symlink_to(folder / "secret")
    elif kind == "hard link":
        os.link(folder / "secret", inside / "weights")
    else:
        (inside / "weights").write_bytes(b"\0" * 16)
    return {"parent": "../secret", "absolute": str(folder / "secret")}.get(kind, "weights")


@pytest.mark.skipif(os.name != "posix", reason="makes links as POSIX does")
@pytest.mark.parametrize("kind", ["parent", "absolute", "symbolic link", "hard link", "neighbour"])
def test_external_data_is_not_read(kind, tmp_path, monkeypatch):
    """CVE-2022-25882, CVE-2024-27318 and CVE-2026-27489 (paths), CVE-2026-34447 and CVE-2026-34446
    (links): no location is followed, not even within the folder."""
    location = place(kind, tmp_path)
    path = tmp_path / "inside" / "model.onnx"
    path.write_bytes(adds(external(location)).SerializeToString())
    before = sorted(os.listdir(path.parent))
    opened = []
    real = open
    monkeypatch.setattr("builtins.open", lambda *a, **k: opened.append(a[0]) or real(*a, **k))
    with pytest.raises(ValueError, match="tensor 'w': external data is not supported"):
        fastrnn.from_onnx(path)
    assert opened == [str(path)] and sorted(os.listdir(path.parent)) == before
