"""What one call costs beside the kernels, and how calls from several Python threads scale.

Run: python bench/latency.py
"""

import statistics
import threading
from time import perf_counter

import numpy as np
from harness import machine

import fastrnn
from fastrnn import layers


def microseconds(call, count=5000):
    times = []
    for _ in range(count):
        start = perf_counter()
        call()
        times.append(perf_counter() - start)
    return 1e6 * statistics.median(times)


def calls_a_second(call, threads, count=400):
    def serve():
        for _ in range(count):
            call()

    team = [threading.Thread(target=serve) for _ in range(threads)]
    start = perf_counter()
    for thread in team:
        thread.start()
    for thread in team:
        thread.join()
    return threads * count / (perf_counter() - start)


def main():
    print("; ".join(f"{key}: {value}" for key, value in machine(1).items()))
    fastrnn.set_num_threads(1)
    model = fastrnn.Sequential(
        [fastrnn.Input((10, 1)), layers.LSTM(8), layers.Dense(1, activation="sigmoid")]
    )
    x, out = np.ones((1, 10, 1), np.float32), np.empty((1, 1), np.float32)
    predictor, stepper = model.compile_inference(), model.stream()
    steps = predictor._plan(x.shape)[1]

    def kernels():
        for step in steps:
            step()

    print("\nLSTM(8) and Dense(1), one sequence of 10 steps, us a call")
    for name, call in (
        ("kernels alone", kernels),
        ("compile_inference()(x)", lambda: predictor(x)),
        ("compile_inference()(x, out=out)", lambda: predictor(x, out=out)),
        ("predict(x, verbose=0)", lambda: model.predict(x, verbose=0)),
        ("stream()(x[:, 0]), one step", lambda: stepper(x[:, 0])),
    ):
        print(f"{name:34}{microseconds(call):6.1f}")

    big = fastrnn.Sequential([fastrnn.Input((28, 28)), layers.LSTM(64), layers.Dense(10)])
    predictor, x = big.compile_inference(), np.ones((16, 28, 28), np.float32)
    predictor(x)
    print("\nLSTM(64), 28 steps, batch 16, one Predictor called by several Python threads")
    alone = None
    for threads in (1, 2, 4, 8):
        rate = statistics.median(calls_a_second(lambda: predictor(x), threads) for _ in "123")
        alone = alone or rate
        print(f"{threads} threads: {rate:8.0f} calls a second, x {rate / alone:.2f}")


if __name__ == "__main__":
    main()
