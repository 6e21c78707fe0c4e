"""What a module offers: dir() and completion show `__all__`; of a name that it lacks the error says
where it is."""

import importlib
import sys
from opcode import opmap

_HOMES = (
    "fastrnn",
    *(f"fastrnn.{name}" for name in (
        "models", "layers", "callbacks", "utils", "optimizers", "schedules", "losses", "metrics",
        "activations", "initializers", "regularizers", "constraints", "preprocessing",
        "preprocessing.sequence", "preprocessing.text", "datasets", "random", "plot", "training",
        "ops", "pipeline",
    )),
)  # fmt: skip


def public(name: str, lazy=(), lacking=None) -> None:
    """Give the module of this name its __dir__ and __getattr__; call it at the module's end.
    lazy: modules in it that are imported when they are first used; lacking: what there is instead
    of names that it lacks."""
    module = sys.modules[name]

    def __dir__():
        return sorted({*module.__all__, *lazy})

    def __getattr__(missing):
        if missing in lazy:
            try:
                return importlib.import_module(f"{name}.{missing}")
            except ImportError as error:  # of another library: hasattr has to be False
                raise AttributeError(str(error)) from error
        message = f"module {name!r} has no attribute {missing!r}"
        homes = [path for path in _HOMES if path in sys.modules and path != name]
        places = [f"{path}.{missing}" for path in homes if missing in _offered(path)]
        if missing in (lacking or ()):
            message += f"; {lacking[missing]}"
        elif not places:
            raise AttributeError(message)
        else:
            message += f"; it is {' or '.join(places[:2])}"
        caller = sys._getframe(1)
        if caller.f_code.co_code[caller.f_lasti] == opmap["IMPORT_FROM"]:
            raise ImportError(message, name=name)  # Python would put its own in place of the other
        raise AttributeError(message)

    vars(module).update(__dir__=__dir__, __getattr__=__getattr__)


def _offered(path):
    return vars(sys.modules[path]).get("__all__", ())


class Missing:
    """An attribute that Keras's class has and ours lacks; advice: what there is instead. The user
    may set one of that name."""

    def __init__(self, advice):
        self.advice = advice

    def __set_name__(self, owner, name):
        self.name = name

    def __get__(self, holder, owner=None):
        raise AttributeError(f"{owner.__name__} has no {self.name} in fastrnn: {self.advice}")
