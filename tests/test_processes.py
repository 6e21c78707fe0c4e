"""Threads, forks and what else a server does with processes; each test in processes of its own."""

import concurrent.futures
import os
import signal
import subprocess
import sys
import sysconfig
import time
import urllib.request
from pathlib import Path

import children
import pytest

from fastrnn.runtime import _cgroup_cpus

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, or sets the affinity")
two_cpus = pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2,
    reason="needs two CPUs",
)
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="os.fork is missing here")

# A model whose calls are big enough to be spread over two threads.
MODEL = """
import fastrnn
from fastrnn import layers
fastrnn.set_num_threads(2)
model = fastrnn.Sequential([
    fastrnn.Input((50, 16)), layers.Bidirectional(layers.LSTM(32)), layers.Dense(1),
])
model.compile("adam", "mse")
rng = np.random.default_rng(0)
x, y = rng.standard_normal((200, 50, 16), np.float32), rng.standard_normal((200, 1))
"""
# What a forked worker does: it reports by its exit status.
WORKER = """
def work():
    try:
        same = np.allclose(model.predict(x, verbose=0), expected, atol=1e-6)
        before = model.evaluate(x, y, verbose=0)
        after = model.fit(x, y, epochs=3, verbose=0).history["loss"][-1]
        os._exit(0 if same and after < before else 1)
    except BaseException:
        os._exit(2)

def fork(count):
    workers = []
    for _ in range(count):
        pid = os.fork()
        if pid == 0:
            work()
        workers.append(pid)
    return workers

def wait(workers):
    for pid in workers:
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
"""


BEFORE = {
    "predict": "expected = model.predict(x, verbose=0)",
    "fit": "model.fit(x, y, verbose=0); expected = model.predict(x, verbose=0)",
    "no thread": """
fastrnn.set_num_threads(1)
expected = model.predict(x, verbose=0)
fastrnn.set_num_threads(2)
""",
}


@forks
@pytest.mark.parametrize("before", BEFORE)
def test_workers_forked_from_a_loaded_model(fresh_python, before):
    """As a server does that loads its model before it forks (gunicorn --preload)."""
    fresh_python(
        f"{MODEL}{WORKER}{BEFORE[before]}"
        """
wait(fork(2))
assert np.allclose(model.predict(x, verbose=0), expected, atol=1e-6)
wait(fork(2))
"""
    )


@linux
@forks
@two_cpus
def test_a_forked_worker_has_threads_of_its_own(fresh_python):
    fresh_python(
        f"{MODEL}"
        """
expected = model.predict(x, verbose=0)
pid = os.fork()
if pid == 0:
    alone = len(os.listdir("/proc/self/task")) == 1
    same = np.array_equal(model.predict(x, verbose=0), expected)
    os._exit(0 if alone and same and len(os.listdir("/proc/self/task")) == 2 else 1)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
"""
    )


@forks
def test_fork_while_another_thread_computes(fresh_python):
    fresh_python(
        f"{MODEL}{WORKER}"
        """
import threading
expected, done = model.predict(x, verbose=0), False
def compute():
    while not done:
        model.predict(x, verbose=0)
thread = threading.Thread(target=compute)
thread.start()
for _ in range(20):
    wait(fork(1))
done = True
thread.join()
"""
    )


# What a thread of the parent may be doing while another forks.
BESIDE = {
    "building layers": "layers.LSTM(64)(x[:1])",
    "seeding": "fastrnn.utils.set_random_seed(1)",
    "dropout": "dropping(x, training=True)",
    "dropout with a seed": "seeded(x, training=True)",
    "noise": "noisy(x, training=True)",
    "training": "own.fit(x, y, verbose=0)",
    "setting weights": "model.set_weights(weights)",
    "copying a model": "copy.deepcopy(model)",
    "training an estimator": "estimator.fit(x[:20], y[:20, 0] > 0)",
}


@forks
@pytest.mark.parametrize("beside", BESIDE)
def test_fork_at_any_moment(fresh_python, beside):
    """No lock that another thread held at that moment stays locked in the child."""
    fresh_python(
        f"{MODEL}"
        f"""
import copy, random, threading
dropping, noisy = layers.Dropout(0.5), layers.GaussianNoise(0.5)
seeded = copy.deepcopy(layers.Dropout(0.5, seed=1))
weights, own = model.get_weights(), fastrnn.models.clone_model(model)
own.compile("adam", "mse")
if "estimator" in {beside!r}:
    from fastrnn.sklearn import LSTMClassifier
    estimator = LSTMClassifier(units=2, epochs=1)
done = False
def compute():
    while not done:
        {BESIDE[beside]}
def child():
    model.fit(x[:40], y[:40], verbose=0)
    {BESIDE[beside]}
    for layer in (dropping, seeded, noisy):
        layer(x[:1], training=True)
    fastrnn.utils.set_random_seed(2)
    os._exit(0)
threads = [threading.Thread(target=compute) for _ in range(2)]
for thread in threads:
    thread.start()
try:
    for _ in range(15):
        time.sleep(random.random() / 100)
        pid = os.fork()
        if pid == 0:
            try:
                child()
            finally:
                os._exit(1)
        for _ in range(3000):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                break
            time.sleep(0.01)
        else:
            os.kill(pid, 9), os.waitpid(pid, 0)
            raise SystemExit("the child hangs")
        assert os.waitstatus_to_exitcode(status) == 0
finally:
    done = True
    for thread in threads:
        thread.join()
"""
    )


@forks
def test_children_of_multiprocessing_train(fresh_python):
    fresh_python(
        f"{MODEL}"
        """
import ctypes, multiprocessing, sys
def train(rate):
    model.optimizer.learning_rate = rate
    return model.fit(x, y, epochs=2, shuffle=False, verbose=0).history["loss"]
start = model.get_weights()
expected = []
for rate in (0.01, 0.001):
    model.compile("adam", "mse")
    expected.append(train(rate))
    model.set_weights(start)
model.compile("adam", "mse")
end_with_parent = (ctypes.CDLL(None).prctl, (1, 9)) if sys.platform == "linux" else ()
with multiprocessing.get_context("fork").Pool(2, *end_with_parent) as pool:
    received = pool.map_async(train, [0.01, 0.001], chunksize=1).get(40)
assert np.allclose(received, expected, rtol=1e-3), (received, expected)
"""
    )


@forks
@pytest.mark.parametrize("kind", ["sync", "gthread"])
def test_gunicorn_serves_a_preloaded_model(tmp_path, kind):
    pytest.importorskip("gunicorn", reason="needs gunicorn")
    (tmp_path / "server.py").write_text(
        f"import os, numpy as np\n{MODEL}"
        """
expected = model.predict(x, verbose=0)  # on two threads, before the fork
predictor = model.compile_inference()
def application(environ, start_response):
    same = np.allclose(model.predict(x, verbose=0), expected, atol=1e-6)
    same = same and np.allclose(predictor(x), expected, atol=1e-6)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.getpid()} {same}".encode()]
"""
    )
    options = ["--preload", "--workers=2", "--threads=2", f"--worker-class={kind}", "--timeout=30"]
    command = [sys.executable, "-m", "gunicorn", *options, "--bind=127.0.0.1:0", "server"]
    with children.start(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as server:
        try:
            direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            address = next(line.split()[-2] for line in server.stderr if "Listening at" in line)

            def ask(_):
                with direct.open(address, timeout=30) as response:
                    return response.read().decode().split()

            with concurrent.futures.ThreadPoolExecutor(4) as pool:
                answers = list(pool.map(ask, range(40)))
            server.send_signal(signal.SIGTERM)
            log = server.communicate(timeout=30)[1]
        finally:
            server.kill()
    assert server.returncode == 0, log
    assert {same for _, same in answers} == {"True"}
    assert len({worker for worker, _ in answers}) <= 2, log  # none hung and was replaced


# --- the benchmark's processes --------------------------------------------------------------------

COMPARING = """
import os, sys, time
sys.path[:0] = sys.argv[1:]
import harness
if __name__ == "__main__":
    with harness.workers(["sgemm", "fastrnn"], 1) as team:
        print(*(worker.process.pid for worker in team.values()), flush=True)
        time.sleep(60)
"""


@linux
@pytest.mark.parametrize("signal_name", ["SIGTERM", "SIGINT", "SIGKILL"])
def test_peers_end_with_the_benchmark(tmp_path, signal_name):
    """Though they are stopped when it is not their turn."""
    root = Path(__file__).parents[1]
    if not (root / "bench" / "harness.py").is_file():
        pytest.skip("the benchmark is in the repository, not in the installed package")
    program = tmp_path / "comparing.py"
    program.write_text(COMPARING)
    command = [sys.executable, program, root / "bench", root]
    with children.start(command, stdout=subprocess.PIPE, text=True) as comparing:
        try:
            workers = list(map(int, comparing.stdout.readline().split()))
            _until(workers, "T")
            comparing.send_signal(getattr(signal, signal_name))
            comparing.wait(30)
            _until(workers, None)
        finally:
            comparing.kill()


def _until(processes, state):
    deadline = time.monotonic() + 30
    while (states := {*map(_state, processes)}) != {state} and time.monotonic() < deadline:
        time.sleep(0.01)
    assert states == {state}


def _state(pid):
    """The letter of /proc for what a process does; None if it has ended."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if state in "ZX" else state


# --- how many threads -----------------------------------------------------------------------------

COUNT = "import fastrnn; print(fastrnn.get_num_threads())"
NEITHER = {"OMP_NUM_THREADS": None, "FASTRNN_NUM_THREADS": None}


@pytest.mark.parametrize(
    "environment, threads",
    [
        ({"OMP_NUM_THREADS": "3"}, 3),
        ({"OMP_NUM_THREADS": "3,2"}, 3),
        ({"FASTRNN_NUM_THREADS": "5"}, 5),
        ({"FASTRNN_NUM_THREADS": "5", "OMP_NUM_THREADS": "3"}, 5),
        ({"FASTRNN_NUM_THREADS": " 5 ", "OMP_NUM_THREADS": "\u00b2"}, 5),
    ],
)
def test_threads_of_the_environment(fresh_python, environment, threads):
    assert int(fresh_python(COUNT, **{**NEITHER, **environment})) == threads


# Digits that are no number, numbers that are none or too large, bytes that are no text.
ABSURD = ["\u00b2", "\u0665", "9" * 5000, "0", "-1", "1e3", "0x2", "1025", "many", "\udcff", ","]


def test_absurd_values_of_others_variables_change_nothing(fresh_python):
    """And no child of this process ends: OMP_STACKSIZE, OMP_THREAD_LIMIT are GNU OpenMP's."""
    expected = fresh_python(COUNT, **NEITHER)
    for value in ABSURD:
        assert fresh_python(COUNT, **{**NEITHER, "OMP_NUM_THREADS": value}) == expected
    for name in ("OMP_STACKSIZE", "GOMP_STACKSIZE", "OMP_THREAD_LIMIT"):
        for value in ("900000G", "99999999", "0", "\u00b2"):
            fresh_python(f"{MODEL}\nmodel.predict(x, verbose=0)", **{name: value})


@pytest.mark.parametrize("value", [*ABSURD[:-1], "avx2 avx512", "z80" * 99])
@pytest.mark.parametrize("name", ["FASTRNN_NUM_THREADS", "FASTRNN_ISA"])
def test_absurd_values_of_our_variables_are_named(fresh_python, name, value):
    code = f"""
try:
    {COUNT}
except ValueError as error:
    print(error, error.__cause__)
"""
    message = fresh_python(code, **{name: value})
    expected = "one of ['" if name == "FASTRNN_ISA" else "a whole number from 1 to 1024"
    assert message.startswith(f"{name}: expected {expected}"), message
    assert message.endswith(f"received {value[:40]!r} None"), message


@linux
def test_affinity_counts(fresh_python):
    pin = "os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])\n"
    assert fresh_python(pin + COUNT, **NEITHER) == "1"


@two_cpus
def test_a_later_affinity_counts(fresh_python):
    """That of the thread which calls, unless a number of threads was set."""
    fresh_python(
        f"{MODEL.replace('fastrnn.set_num_threads(2)', '')}"
        """
import threading
def pool():  # the engine's threads, beside the others
    model.predict(x, verbose=0)
    return len(os.listdir("/proc/self/task")) - others
cpus = sorted(os.sched_getaffinity(0))[:2]
assert fastrnn.get_num_threads() >= 2
os.sched_setaffinity(0, cpus[:1])
time.sleep(0.05)  # a pass asks once a tick of the clock
others = len(os.listdir("/proc/self/task"))
assert fastrnn.get_num_threads() == 1 and pool() == 0
os.sched_setaffinity(0, cpus)
time.sleep(0.05)
assert fastrnn.get_num_threads() == 2 and pool() == 1
counts = []
def pinned():
    os.sched_setaffinity(0, cpus[:1])  # of this thread alone
    counts.append(fastrnn.get_num_threads())
thread = threading.Thread(target=pinned)
thread.start()
thread.join()
assert counts == [1] and fastrnn.get_num_threads() == 2
fastrnn.set_num_threads(2)
os.sched_setaffinity(0, cpus[:1])
assert fastrnn.get_num_threads() == 2
""",
        **NEITHER,
    )


@pytest.mark.parametrize(
    "files, cpus",
    [
        ({"sys/fs/cgroup/cpu.max": "150000 100000"}, 1.5),
        ({"sys/fs/cgroup/cpu.max": "max 100000"}, float("inf")),
        ({"sys/fs/cgroup/cpu.max": "nonsense"}, float("inf")),
        (
            {
                "proc/self/cgroup": "0::/web.slice/app.service\n",
                "sys/fs/cgroup/web.slice/cpu.max": "200000 100000",
                "sys/fs/cgroup/web.slice/app.service/cpu.max": "400000 100000",
            },
            2,
        ),
        (
            {
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "300000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            3,
        ),
        (
            {
                "proc/self/cgroup": "5:memory:/m\n4:cpu,cpuacct:/job\n0::/\n",
                "sys/fs/cgroup/cpu/job/cpu.cfs_quota_us": "50000\n",
                "sys/fs/cgroup/cpu/job/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            0.5,
        ),
        ({}, float("inf")),
    ],
)
def test_quotas_of_control_groups(tmp_path, files, cpus):
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert _cgroup_cpus(str(tmp_path)) == cpus


def test_workers_of_joblib_share_the_cpus():
    joblib = pytest.importorskip("joblib", reason="joblib comes with scikit-learn")
    names = ("OMP_NUM_THREADS", "FASTRNN_NUM_THREADS")
    if any(name in os.environ for name in names):
        pytest.skip("the environment sets the number of threads")

    def threads():
        import fastrnn

        return fastrnn.get_num_threads()

    counts = joblib.Parallel(n_jobs=2)(joblib.delayed(threads)() for _ in range(4))
    assert counts == [max(1, joblib.cpu_count() // 2)] * 4


@linux
def test_threads_end_up_asleep(fresh_python):
    """No more threads than asked for, and none of them spins once a call has returned."""
    used = fresh_python(
        MODEL
        + """
loaded = len(os.listdir('/proc/self/task'))  # NumPy's BLAS has its own
for _ in range(10):
    model.predict(x, verbose=0)
    model.fit(x, y, verbose=0)
assert len(os.listdir('/proc/self/task')) == loaded + 1
time.sleep(0.1)
start = time.process_time()
time.sleep(0.5)
print(time.process_time() - start)
"""
    )
    assert float(used) < 0.02


def test_many_threads_call_one_model(fresh_python):
    fresh_python(
        f"{MODEL}"
        """
import concurrent.futures
sizes = [1, 3, 40, 200]
expected = {n: model.predict(x[:n], verbose=0) for n in sizes}
def call(n):
    return np.allclose(model.predict(x[:n], verbose=0), expected[n], atol=1e-6)
with concurrent.futures.ThreadPoolExecutor(8) as pool:
    assert all(pool.map(call, sizes * 50))
"""
    )


def test_threads_train_models_of_their_own(fresh_python):
    fresh_python(
        f"{MODEL}"
        """
import concurrent.futures
weights = model.get_weights()
def train(rate):
    own = fastrnn.models.clone_model(model)
    own.compile(fastrnn.optimizers.Adam(rate), "mse")
    own.set_weights(weights)
    predict = own.compile_inference()
    losses = own.fit(x, y, epochs=3, shuffle=False, verbose=0).history["loss"]
    assert np.array_equal(predict(x), own.predict(x, batch_size=len(x), verbose=0))
    return losses
fastrnn.set_num_threads(1)  # for the same sums
rates = [n / 1000 for n in range(1, 9)]
expected = list(map(train, rates))
with concurrent.futures.ThreadPoolExecutor(4) as pool:
    assert list(pool.map(train, rates)) == expected
"""
    )


@pytest.mark.skipif(not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="Python has a GIL here")
def test_the_gil_stays_off(fresh_python):
    code = "import sys, fastrnn; print(sys._is_gil_enabled())"
    assert fresh_python(code, PYTHON_GIL=None) == "False"
