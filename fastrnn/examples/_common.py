"""What the examples share: their options, the plot of their curves and how they end."""

import argparse
import sys


def parser(
    name: str, description: str, epochs: int, verbose: int = 1, seed: int = 0
) -> argparse.ArgumentParser:
    """The options of every example."""
    options = argparse.ArgumentParser(
        prog=f"python -m fastrnn.examples.{name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options.add_argument("--epochs", type=int, default=epochs, help=f"default {epochs}")
    options.set_defaults(epochs_of_the_target=epochs)
    options.add_argument("--seed", type=int, default=seed, help=f"default {seed}")
    options.add_argument(
        "--verbose",
        type=int,
        choices=(0, 1, 2),
        default=verbose,
        help=f"0 is silent, 1 a progress bar, 2 a line per epoch; default {verbose}",
    )
    options.add_argument("--plot", type=_plottable, metavar="FILE.png", help="save the curves")
    return options


def plot(path: str | None, **histories: dict[str, list]) -> None:
    """Save the curves of one or more named histories, a panel for each quantity."""
    if path is None:
        return
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = [key for key in next(iter(histories.values())) if not key.startswith("val_")]
    figure, panels = pyplot.subplots(
        1, len(names), figsize=(5 * len(names), 4), squeeze=False, layout="constrained"
    )
    for panel, name in zip(panels[0], names, strict=True):
        for label, history in histories.items():
            for key, part in ((name, "training"), (f"val_{name}", "validation")):
                if key in history:
                    epochs = range(1, len(history[key]) + 1)
                    panel.plot(epochs, history[key], label=f"{label}, {part}")
        panel.set(xlabel="epoch", ylabel=name)
        panel.legend()
    figure.savefig(path)
    pyplot.close(figure)


def check(args: argparse.Namespace, name: str, value: float, target: float) -> None:
    """Print a result; exit with status 1 if it is below `target`, see `missed`."""
    if value >= target:
        print(f"{name}: {value:.4f}", flush=True)
    else:
        missed(args, f"{name}: {value:.4f}", f"{name} should be at least {target}")


def missed(args: argparse.Namespace, result: str, target: str) -> None:
    """Print a result; exit with status 1, unless the target is for more epochs than were asked."""
    epochs = args.epochs_of_the_target
    if args.epochs < epochs:
        print(f"{result} (after {epochs} epochs, the default, {target})", flush=True)
    else:
        print(result, flush=True)
        sys.exit(f"target not met: {target}")


def _plottable(path: str) -> str:
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise argparse.ArgumentTypeError(
            "needs matplotlib, as in: pip install fastrnn[plot]"
        ) from error
    return path
