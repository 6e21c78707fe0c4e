"""to_onnx and from_onnx of branching models: several inputs and outputs, states, masks."""

import numpy as np
import pytest
from graph_examples import GRAPHS, OPERATIONS, assert_close, built, data, predicted
from test_layers import CASES
from test_layers import built as built_layer
from test_onnx import has_operator

import fastrnn
from fastrnn import layers as L
from fastrnn.models import Model, Sequential

onnx = pytest.importorskip("onnx", reason="needs onnx: pip install 'fastrnn[files]'")

from onnx import TensorProto, helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

LENGTHS = ((3, 5), (1, 1), (4, 7))  # of the batch and of free axes


@pytest.mark.parametrize("name", [*GRAPHS, *OPERATIONS])
def test_every_graph(name, rng):
    model = built(name, rng)
    proto = fastrnn.to_onnx(model)
    graph = fastrnn.from_onnx(proto.SerializeToString())
    assert graph.inputs == model.input_names
    for free in LENGTHS:
        x = data(model, rng, free)
        y = predicted(model, x)
        found = graph(dict(zip(graph.inputs, x, strict=True)))
        assert_close(found if isinstance(found, list) else [found], y)


@pytest.mark.parametrize("name", ["two inputs", "attention", "heads", "nested", "maximum, masks"])
def test_the_reference(name, rng):
    model = built(name, rng)
    x = data(model, rng)
    found = ReferenceEvaluator(fastrnn.to_onnx(model)).run(
        None, dict(zip(model.input_names, x, strict=True))
    )
    np.testing.assert_allclose(found[0], predicted(model, x)[0], rtol=1e-5, atol=1e-5)


def test_names_of_inputs_and_outputs(rng):
    states = fastrnn.from_onnx(fastrnn.to_onnx(built("encoder, decoder", rng)).SerializeToString())
    assert states.inputs == ["source", "target"]
    first, second, third = states.outputs
    assert first == "next" and third == f"{second}_1"
    twice = fastrnn.from_onnx(fastrnn.to_onnx(built("read twice", rng)).SerializeToString())
    assert twice.outputs[1:] == ["own", f"{twice.outputs[0]}_1", "numbers_1"]
    chain = Sequential([L.Input((4, 3)), L.LSTM(2, return_state=True)])
    graph = fastrnn.from_onnx(fastrnn.to_onnx(chain).SerializeToString())
    assert (graph.inputs, graph.outputs) == (["input"], ["output", "output_1", "output_2"])
    x = rng.standard_normal((2, 4, 3)).astype(np.float32)
    assert_close(graph(x), chain.predict(x, verbose=0))


def test_a_dict_of_outputs_has_the_keys_as_names(rng):
    start = L.Input((3,), name="given")
    outputs = {"up": L.Dense(2, name="one")(start), "down": L.Dense(1, name="other")(start)}
    model = Model({"x": start}, outputs)
    graph = fastrnn.from_onnx(fastrnn.to_onnx(model).SerializeToString())
    x = rng.standard_normal((2, 3)).astype(np.float32)
    found, y = dict(zip(graph.outputs, graph(x), strict=True)), model.predict({"x": x}, verbose=0)
    assert graph.inputs == ["given"] and {*found} == {"up", "down"}
    assert_close([found["up"], found["down"]], [y["up"], y["down"]])


def test_free_axes_have_names_of_their_own(rng):
    proto = fastrnn.to_onnx(built("heads, mask of scores", rng))
    dims = [
        [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in proto.graph.input
    ]
    assert dims == [
        ["batch", "source_timesteps"],
        ["batch", "target_timesteps"],
        ["batch", "mask_timesteps", "mask_axis_2"],
    ]


def test_weights_of_shared_layers_are_stored_once(rng):
    model = built("siamese", rng)
    proto = fastrnn.to_onnx(model)
    sizes = [int(np.prod(array.dims)) for array in proto.graph.initializer]
    weights = [weight.value.size for weight in model.weights]
    large = sorted(size for size in sizes if size > 12)
    embedding, kernel, recurrent, bias = weights
    assert large == sorted([embedding, kernel, recurrent, 2 * bias])


def test_one_mask_is_sorted_once(rng):
    start = L.Input((None,), name="words")
    x = L.Embedding(9, 3, mask_zero=True)(start)
    model = Model(start, [L.LSTM(2)(x), L.GRU(2)(x)])
    ops = [node.op_type for node in fastrnn.to_onnx(model).graph.node]
    assert ops.count("TopK") == 1


def test_what_onnx_lacks_names_the_layer():
    start = L.Input((4, 3))
    for make, words in (
        (lambda: L.LSTM(2, activation="gelu", name="mine"), "'mine'.*activation 'gelu'"),
        (lambda: Stranger(name="mine"), "'mine': Stranger is not supported"),
    ):
        x = make()(start)
        model = Model(start, [x, L.Activation("tanh")(x)])
        with pytest.raises(ValueError, match=words):
            fastrnn.to_onnx(model)
    with pytest.raises(ValueError, match="'cumsum.*': Cumsum is not supported"):
        fastrnn.to_onnx(Model(start, fastrnn.ops.cumsum(L.Dense(2)(start), axis=1)))
    with pytest.raises(ValueError, match="'mine': a call with training=True"):
        x = L.Dropout(0.5, name="mine")(start, training=True)
        fastrnn.to_onnx(Model(start, L.Dense(2)(x)))
    start = L.Input((4,))
    x = L.Embedding(4, 3, mask_zero=True)(start)
    with pytest.raises(ValueError, match="'mine'.*softmax"):
        fastrnn.to_onnx(Model(start, [L.Softmax(name="mine")(x), x]))


class Stranger(L.Layer):
    def forward(self, x, run, mask=None):
        return x


# --- and back ---

# What to_model does not know again: the operator of the node that it names.
UNREAD = {
    "heads, window, gate": "Where",
    "heads, mask of scores": "And",
    "heads of": "MatMul",
    "grouped heads": "MatMul",
    "bidirectional two layers": "Concat",
    "bidirectional rnn of cells": "Concat",
    "layer normalization axes": "ReduceMean",
    "layer normalization middle": "Sqrt",
    "layer normalization plain": "Sqrt",
    "layer normalization rms": "Div",
    "up sampling of images": "Tile",
    "time distributed up sampling": "Tile",
    "rms normalization axes": "ReduceMean",
    "group normalization": "Div",
    "group normalization of each": "Sqrt",
    "group normalization middle": "Div",
    "time distributed group normalization": "Reshape",
    "relu": "Greater",
    "softmax": "ReduceMax",
}
WHOLE = "group normalization", "softmax", "relu"  # of which other names are read


def unread(name):
    return UNREAD.get(name) or next(
        (op for start, op in UNREAD.items() if start not in WHOLE and name.startswith(start)), None
    )


def read_back(model, name):
    """The model of what to_onnx writes; None where it is to be refused, and is."""
    graph = fastrnn.from_onnx(fastrnn.to_onnx(model).SerializeToString())
    op = unread(name)
    if op is None:
        return graph.to_model()
    with pytest.raises(ValueError, match=rf"node '.*' \({op}\): .*predict runs other graphs too"):
        graph.to_model()
    return None


@pytest.mark.parametrize("name", GRAPHS)
def test_every_graph_and_back(name, rng):
    model = built(name, rng)
    twin = read_back(model, name)
    if twin is None:
        return
    if hasattr(twin, "input_names"):  # which chains do not have
        assert twin.input_names == model.input_names
    for free in LENGTHS:
        x = data(model, rng, free)
        assert_close(predicted(twin, x), predicted(model, x))


@pytest.mark.parametrize("case", [case for case in CASES if has_operator(case)])
def test_every_layer_and_back(case, rng):
    model, x = built_layer(case, rng)
    twin = read_back(model, case)
    if twin is not None:
        np.testing.assert_allclose(
            twin.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-4, atol=1e-5
        )


KEPT = [
    "two inputs", "encoder, decoder, masks", "both ways, decoder, attention", "siamese",
    "attention, causal", "additive attention", "heads, scores", "residual", "attention pooling",
    "both ways apart, sequences", "add, masks", "average, one mask", "concatenate in time",
]  # fmt: skip


@pytest.mark.parametrize("name", KEPT)
def test_the_same_layers_come_back(name, rng, tmp_path):
    """Their classes, numbers of weights and names; a file of Keras; training."""
    model = built(name, rng)
    twin = read_back(model, name)
    assert sorted(la.name for la in twin.layers if la.weights) == sorted(
        la.name for la in model.layers if la.weights
    )
    kinds = [
        sorted(
            type(la).__name__ for la in m.layers if not isinstance(la, (L.InputLayer, L.Reshape))
        )
        for m in (twin, model)
    ]
    assert kinds[0] == kinds[1]
    assert twin.count_params() == model.count_params()
    twin.save(tmp_path / "twin.keras")
    again = fastrnn.models.load_model(tmp_path / "twin.keras")
    x = data(model, rng)
    y = predicted(model, x)
    assert_close(predicted(again, x), y)
    x, target = x if model.takes_several else x[0], [np.zeros_like(part) for part in y]
    losses = ["mse"] * len(target) if twin.gives_several else "mse"
    twin.compile(fastrnn.optimizers.SGD(0.01), losses)
    target = target if twin.gives_several else target[0]
    before = twin.evaluate(x, target, verbose=0)
    twin.fit(x, target, epochs=3, verbose=0)
    after = twin.evaluate(x, target, verbose=0)
    assert np.ravel(after)[0] < np.ravel(before)[0]


def graph_of_nodes(*nodes, constants=None, outputs=("y",), shape=("batch", "timesteps", 3)):
    proto = helper.make_graph(
        [
            helper.make_node(op, ins, outs, f"node {n}", **options)
            for n, (op, ins, outs, options) in enumerate(nodes)
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [onnx.numpy_helper.from_array(a, name) for name, a in (constants or {}).items()],
    )
    model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", 17)])
    return fastrnn.from_onnx(model.SerializeToString())


def test_what_no_layer_does_names_the_node():
    for graph, words in (
        (graph_of_nodes(("Log", ["x"], ["y"], {})), r"output 'y': node 'node 0' \(Log\): no layer"),
        (
            graph_of_nodes(("Log", ["x"], ["z"], {}), ("Tanh", ["z"], ["y"], {})),
            r"output 'y': node 'node 0' \(Log\)",
        ),
        (
            graph_of_nodes(("Transpose", ["x"], ["y"], {"perm": [1, 0, 2]})),
            "expected the batch on its first axis",
        ),
        (
            graph_of_nodes(
                ("Slice", ["x", "from", "to", "axes", "by"], ["y"], {}),
                constants={
                    "from": np.array([-1]), "to": np.array([-(2**31) + 1]),
                    "axes": np.array([1]), "by": np.array([-1]),
                },
            ),
            "reversed",
        ),
        (graph_of_nodes(("Identity", ["w"], ["y"], {}), constants={"w": np.ones(2)}), "the inputs"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=words):
            graph.to_model()


def test_other_uses_of_masks_are_found_out(rng):
    """Zeros where the input is zero, but not by a mask of whole steps."""
    graph = graph_of_nodes(
        ("Equal", ["x", "zero"], ["off"], {}),
        ("Where", ["off", "one", "x"], ["z"], {}),
        ("Tanh", ["z"], ["y"], {}),
        constants={"zero": np.float32(0), "one": np.float32(1)},
    )
    with pytest.raises(ValueError):
        graph.to_model()
    graph = graph_of_nodes(
        ("Add", ["x", "one"], ["more"], {}),
        ("Equal", ["x", "zero"], ["off"], {}),
        ("Where", ["off", "x", "more"], ["y"], {}),
        constants={"zero": np.float32(0), "one": np.float32(1)},
    )
    with pytest.raises(ValueError, match="its layers are off by"):
        graph.to_model()
