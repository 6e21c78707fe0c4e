"""One recurrent layer or Bidirectional, called by itself: outputs, states and the gradients through
all of them, with masks and initial states of every kind."""

import comparison
import configurations as random_of
import numpy as np
import pytest
from comparison import floatx, keras, tensor, tf

import fastrnn
from fastrnn.run import Run
from fastrnn.variable import Store

pytestmark = pytest.mark.filterwarnings("ignore:.*softmax over axis")

SEED = 1_000_000
COUNT = 600


def draw(seed):
    rng = np.random.default_rng(SEED + seed)
    batch, timesteps, features = random_of.size_of_sequence(rng)
    options = {
        "timesteps": timesteps,
        "return_sequences": random_of.chance(rng, 0.5),
        "return_state": random_of.chance(rng, 0.4),
        "activity_regularizer": None,  # adds to the loss of a model, which there is none of here
    }
    if random_of.chance(rng, 0.35):
        modes = ("concat", "sum", "mul", "ave", None)
        layer = random_of.bidirectional(rng, modes=modes, **options)
        if "backward_layer" in layer[1] and layer[1]["merge_mode"] in ("concat", None):
            layer[1]["backward_layer"][1]["units"] = random_of.between(rng, 1, 70)
    else:
        layer = random_of.recurrent(rng, **options)
    form, mask = random_of.mask(rng, batch, timesteps)
    config = {
        "layer": layer,
        "x": (batch, timesteps, features),
        "mask": form if random_of.chance(rng, 0.6) else None,
        "initial_state": random_of.chance(rng, 0.4),
    }
    data = {
        "x": random_of.normal(rng, batch, timesteps, features),
        "mask": mask if config["mask"] else None,
    }
    return rng, config, data


def directions(layer):
    name, options = layer
    if name != "Bidirectional":
        return [layer]
    return [options["layer"], options.get("backward_layer", options["layer"])]


def draw_states(rng, config):
    """Initial states of all directions, one after the other, or None."""
    if not config["initial_state"]:
        return None
    batch = config["x"][0]
    return [
        random_of.normal(rng, batch, options["units"], scale=0.7)
        for name, options in directions(config["layer"])
        for _ in range(2 if name == "LSTM" else 1)
    ]


def split(config, outputs):
    """(outputs, states) of what a layer returns."""
    if not isinstance(outputs, (list, tuple)):
        return [outputs], []
    name, options = config["layer"]
    count = 2 if options.get("merge_mode", "") is None else 1
    return list(outputs[:count]), list(outputs[count:])


def keras_results(config, data, dtype="float32"):
    with floatx(dtype):
        layer = random_of.build(keras, config["layer"])
        layer.build(config["x"])
        initial = [w for w in layer.weights if w.name == "bias"]
        initial = [w.numpy() for w in initial]
        layer.set_weights(data["weights"])
        x = tensor(data["x"])
        call = {"training": False}
        if data["mask"] is not None:
            call["mask"] = tf.convert_to_tensor(data["mask"])
        if data["states"] is not None:
            call["initial_state"] = [tensor(s) for s in data["states"]]
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs, states = split(config, layer(x, **call))
            total = sum(
                tf.reduce_sum(y * tensor(dy))
                for y, dy in zip([*outputs, *states], data["dy"], strict=True)
            )
        weights = [v.value for v in layer.trainable_variables]
        *gradients, dx = tape.gradient(total, [*weights, x], unconnected_gradients="zero")
    results = {
        "output": outputs,
        "state": states,
        "initial weight": initial,
        "gradient of a weight": gradients,
        "gradient of the input": [dx],
    }
    return {what: [np.asarray(v) for v in values] for what, values in results.items()}


def fastrnn_results(config, data):
    layer = random_of.build(fastrnn, config["layer"])
    layer.build((None, *config["x"][1:]))
    initial = [w.numpy() for w in layer.weights if w.name == "bias"]
    layer.set_weights(data["weights"])
    call = {} if data["states"] is None else {"initial_state": data["states"]}
    outputs, states = split(config, layer(data["x"], mask=data["mask"], **call))
    store = Store(layer.trainable_weights)
    run = Run(training=True)
    layer._forward_call(data["x"], run, data["mask"], **call)
    dy = [d.copy() for d in data["dy"]]
    dx = layer.backward(dy if len(dy) > 1 else dy[0], run, True)
    return {
        "output": outputs,
        "state": states,
        "initial weight": initial,
        "gradient of a weight": [v.gradient for v in store.variables],
        "gradient of the input": [dx],
    }


@pytest.mark.parametrize("seed", range(COUNT))
def test_recurrent_layer(seed, tally):
    rng, config, data = draw(seed)
    layer = random_of.build(fastrnn, config["layer"])
    layer.build(config["x"])
    data["weights"] = [random_of.random_weight(rng, w.path, w.shape) for w in layer.weights]
    data["states"] = draw_states(rng, config)
    outputs, states = split(config, layer(data["x"]))
    data["dy"] = [random_of.normal(rng, *y.shape) for y in [*outputs, *states]]
    comparison.agree(
        tally,
        "random recurrent layer with masks and states",
        f"test_recurrent_layer[{seed}]",
        config,
        fastrnn_results(config, data),
        keras_results(config, data),
        lambda: keras_results(config, data, "float64"),
    )


@pytest.mark.parametrize("activation", (*random_of.ACTIVATIONS, "exponential", "log_softmax"))
@pytest.mark.parametrize("name", random_of.RECURRENT)
def test_every_activation(name, activation, tally):
    """In both places; inputs and weights small enough for exponential."""
    rng = np.random.default_rng(len(name + activation))
    options = {"units": 5, "return_sequences": True, "return_state": True}
    for place in ("activation", "recurrent_activation"):
        if not random_of.accepts(name, place):
            continue
        config = {"layer": (name, {**options, place: activation}), "x": (4, 2, 6)}
        data = {
            "x": random_of.normal(rng, 4, 2, 6, scale=0.5),
            "mask": rng.random((4, 2)) < 0.7,
            "dy": [random_of.normal(rng, 4, 2, 5)],
        }
        data["states"] = draw_states(rng, {**config, "initial_state": True})
        data["dy"] += [random_of.normal(rng, 4, 5) for _ in data["states"]]
        layer = random_of.build(fastrnn, config["layer"])
        layer.build(config["x"])
        data["weights"] = [random_of.normal(rng, *w.shape, scale=0.2) for w in layer.weights]
        comparison.agree(
            tally,
            "activations",
            f"test_every_activation[{name}-{activation}]",
            config,
            fastrnn_results(config, data),
            keras_results(config, data),
            lambda: keras_results(config, data, "float64"),  # noqa: B023 (called at once)
        )
