"""to_onnx and from_onnx of branching models: several inputs and outputs, states, masks."""

import numpy as np
import pytest
from graph_examples import GRAPHS, assert_close, built, data, predicted

import fastrnn
from fastrnn import layers as L
from fastrnn.models import Model, Sequential

onnx = pytest.importorskip("onnx", reason="needs onnx: pip install 'fastrnn[files]'")

from onnx.reference import ReferenceEvaluator  # noqa: E402

LENGTHS = ((3, 5), (1, 1), (4, 7))  # of the batch and of free axes


@pytest.mark.parametrize("name", GRAPHS)
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
    start = L.Input((4,))
    x = L.Embedding(4, 3, mask_zero=True)(start)
    with pytest.raises(ValueError, match="'mine'.*softmax"):
        fastrnn.to_onnx(Model(start, [L.Softmax(name="mine")(x), x]))


class Stranger(L.Layer):
    def forward(self, x, run, mask=None):
        return x
