"""Memory stays flat, and running out of it is a MemoryError that leaves the model as it was."""

import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc and sets RLIMIT_AS")

PRELUDE = """
import fastrnn, resource
from fastrnn import layers
fastrnn.set_num_threads(2)
def classifier():
    model = fastrnn.Sequential([
        fastrnn.Input((None,), dtype="int32"), layers.Embedding(50, 8),
        layers.Bidirectional(layers.LSTM(12, return_sequences=True)), layers.Dropout(0.2),
        layers.GRU(8), layers.Dense(3, activation="softmax"),
    ])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model
def status(name):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(name)) * 1024
rng = np.random.default_rng(0)
def data(samples, steps):
    return rng.integers(0, 50, (samples, steps)), rng.integers(0, 3, samples)
"""

# Thousands of calls on batches of many shapes; the whole counts are in bench/endurance.py.
FLAT = {
    "predict": "model.predict(x[: 1 + n % 9, : 1 + n % 20], verbose=0)",
    "compile_inference": "predictor(x[: 1 + n % 9, : 1 + n % 20])",
    "predict on a big batch": "model.predict(np.tile(x, (1 + n % 5, 1)), verbose=n % 2 and 2)",
    "train_on_batch": "model.train_on_batch(x[: 1 + n % 9, : 1 + n % 20], y[: 1 + n % 9])",
    "fit": "model.fit(x, y, batch_size=8, verbose=0)",
    "evaluate": "model.evaluate(x, y, batch_size=8, verbose=0)",
}


@pytest.mark.parametrize("call", FLAT)
def test_calls_leave_the_memory_flat(fresh_python, call):
    count = 4000 if call in ("predict", "compile_inference") else 150
    fresh_python(
        f"""{PRELUDE}
import contextlib, io
model = classifier()
predictor = model.compile_inference()
x, y = data(32, 20)
def calls(count):
    with contextlib.redirect_stdout(io.StringIO()):
        for n in range(count):
            {FLAT[call]}
calls({count})
before = status("VmRSS")
calls(3 * {count})
grown = status("VmRSS") - before
assert grown < 2**20, grown
"""
    )


# Each call needs more than the limits allow at first, so that one array after another fails.
LIMITED = """
small, labels = data(4, 10)
big, big_labels = data(3000, 100)
model, untouched = classifier(), classifier()
model.predict(big[:500, :50], verbose=0)  # the threads are there before memory is short
untouched.set_weights(model.get_weights())
expected = model.predict(small, verbose=0)
base, errors = status("VmSize"), 0
while True:
    limit = base + errors * 8 * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    try:
        result = call(model)
        break
    except MemoryError:
        errors += 1
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
    assert np.array_equal(model.predict(small, verbose=0), expected), errors
print(errors)
assert np.array_equal(result, call(untouched))
"""


def test_predict_without_memory(fresh_python):
    errors = fresh_python(
        f"""{PRELUDE}
def call(model):
    return model.predict(big, batch_size=3000, verbose=0)
{LIMITED}"""
    )
    assert int(errors) > 3


def test_fit_without_memory(fresh_python):
    """After the errors, training goes on exactly as if nothing had been."""
    errors = fresh_python(
        f"""{PRELUDE}
def call(model):
    fastrnn.utils.set_random_seed(5)
    model.fit(big, big_labels, batch_size=3000, epochs=2, shuffle=False, verbose=0)
    return np.concatenate([weight.ravel() for weight in model.get_weights()])
{LIMITED}"""
    )
    assert int(errors) > 10


def test_no_memory_for_threads(fresh_python):
    """Then the pass runs on one thread."""
    fresh_python(
        f"""{PRELUDE}
model, (x, _) = classifier(), data(300, 50)
fastrnn.set_num_threads(1)
expected = model.predict(x, verbose=0)
fastrnn.set_num_threads(4)
limit = status("VmSize") + 2 ** 22  # less than one thread's stack
resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
threads = len(os.listdir("/proc/self/task"))
assert np.allclose(model.predict(x, verbose=0), expected, atol=1e-6)
assert len(os.listdir("/proc/self/task")) == threads
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
assert np.allclose(model.predict(x, verbose=0), expected, atol=1e-6)
assert len(os.listdir("/proc/self/task")) > threads
"""
    )
