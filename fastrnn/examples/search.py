"""Search the hyper-parameters of a classifier of sequences, with Optuna or scikit-learn.

The sequences are noise in which two bumps differ in height; which one is higher is to be found.
Networks come from a function of the choices, as in KerasTuner. KerasTuner's own tuners need one of
Keras's backends beside fastrnn; they then search what their `run_trial` builds and scores.
Needs one of: pip install 'fastrnn[optuna]', 'fastrnn[sklearn]'
"""

import functools
import sys

import numpy as np

from fastrnn import random
from fastrnn.callbacks import Callback
from fastrnn.examples import _common
from fastrnn.layers import LSTM, Bidirectional, Dense, Dropout, Input
from fastrnn.models import Sequential
from fastrnn.optimizers import Adam


def main():
    options = _common.parser("search", __doc__, epochs=20, verbose=0)
    options.add_argument("--by", choices=("optuna", "sklearn"), default="optuna")
    options.add_argument("--trials", type=int, default=10, help="default 10")
    args = options.parse_args()
    random.set_seed(args.seed)
    data = sequences(800, args.seed)
    search = by_optuna if args.by == "optuna" else by_sklearn
    best, history, score = search(data, sequences(600, args.seed + 1), args)
    print("best:", ", ".join(f"{name}={value:.3g}" for name, value in sorted(best.items())))
    _common.plot(args.plot, best=history)
    _common.check(args, "accuracy on new sequences", score, 0.85)


def sequences(samples, seed):
    """x (samples, 30, 1), and whether the first bump is higher, (samples,)."""
    rng = np.random.default_rng(seed)
    x = 0.1 * rng.standard_normal((samples, 30, 1))
    heights = rng.uniform(1, 3, (samples, 2))
    rows = np.arange(samples)
    for bump, first in enumerate((2, 16)):
        x[rows, rng.integers(first, first + 12, samples), 0] += heights[:, bump]
    return x.astype(np.float32), (heights[:, 0] > heights[:, 1]).astype(int)


def build(input_shape, outputs, units=16, dropout=0.0, both_ways=1):
    layer = LSTM(units)
    return Sequential(
        [
            Input(input_shape),
            Bidirectional(layer) if both_ways else layer,
            Dropout(dropout),
            Dense(outputs, activation="softmax"),
        ]
    )


def by_optuna(data, new, args):
    """Optuna proposes, and ends trials that fall behind after an epoch."""
    try:
        import optuna
    except ImportError:
        sys.exit("search needs Optuna: pip install 'fastrnn[optuna]'")
    optuna.logging.set_verbosity(optuna.logging.WARNING)

    class Report(Callback):
        def __init__(self, trial):
            self.trial = trial

        def on_epoch_end(self, epoch, logs=None):
            self.trial.report(logs["val_accuracy"], epoch)
            if self.trial.should_prune():
                raise optuna.TrialPruned

    def train(units, dropout, both_ways, rate, callbacks=()):
        model = build((30, 1), 2, units, dropout, both_ways)
        model.compile(Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
        options = {"verbose": args.verbose, "callbacks": list(callbacks), "validation_split": 0.25}
        history = model.fit(*data, epochs=args.epochs, batch_size=16, **options)
        if history.interrupted:
            study.stop()
        return model, history.history

    def objective(trial):
        _, history = train(
            trial.suggest_int("units", 4, 32, log=True),
            trial.suggest_float("dropout", 0, 0.5),
            trial.suggest_int("both_ways", 0, 1),
            trial.suggest_float("rate", 1e-3, 3e-2, log=True),
            [Report(trial)],
        )
        return max(history["val_accuracy"])

    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=args.seed),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=3),
    )
    study.optimize(objective, args.trials)
    states = [trial.state.name for trial in study.trials]
    print(f"{len(states)} trials, {states.count('PRUNED')} ended early")
    model, history = train(**study.best_params)
    return study.best_params, history, model.evaluate(*new, verbose=0)[1]


def by_sklearn(data, new, args):
    """scikit-learn draws from the choices, and compares by cross-validation on all CPUs. Each
    choice of the arguments of `build` is a candidate."""
    try:
        from fastrnn.sklearn import LSTMClassifier
    except ImportError as error:
        sys.exit(f"search: {error}")
    from scipy.stats import loguniform
    from sklearn.model_selection import RandomizedSearchCV

    networks = [
        functools.partial(build, units=units, dropout=dropout, both_ways=both_ways)
        for units in (4, 8, 16, 32)
        for dropout in (0.0, 0.25, 0.5)
        for both_ways in (0, 1)
    ]
    search = RandomizedSearchCV(
        LSTMClassifier(epochs=args.epochs, batch_size=16, verbose=args.verbose),
        {"build": networks, "learning_rate": loguniform(1e-3, 3e-2)},
        n_iter=args.trials, cv=3, n_jobs=-1, random_state=args.seed,
    ).fit(*data)  # fmt: skip
    best = search.best_params_["build"].keywords | {"rate": search.best_params_["learning_rate"]}
    return best, search.best_estimator_.history_, search.score(*new)


if __name__ == "__main__":
    main()
