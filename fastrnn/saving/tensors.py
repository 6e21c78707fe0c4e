"""Weights alone in safetensors files, named like `bidirectional/forward_layer/cell/kernel`."""

from fastrnn.saving import weights


def _safetensors():
    try:
        import safetensors.numpy
    except ImportError:
        raise ImportError(
            ".safetensors files need the package safetensors: pip install safetensors"
        ) from None
    return safetensors


def _named(model):
    """name -> variable. Layers go by class and number, as they do in Keras 3's files, since the
    names that they get by themselves differ from one run of a program to the next."""
    named = {}
    for path, _, variables in weights.places(model):
        for variable in variables:
            named[f"{path.replace('layers/', '')}{variable.name}"] = variable
    return named


def write(model) -> bytes:
    """The bytes of a .safetensors file."""
    arrays = {name: variable.value for name, variable in _named(model).items()}
    return _safetensors().numpy.save(arrays, {"format": "fastrnn"})


def read(model, data: bytes, skip_mismatch=False) -> None:
    """Give a built model the weights in the bytes of a .safetensors file, all or none."""
    safetensors = _safetensors()
    try:
        arrays = safetensors.numpy.load(data)
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"not a .safetensors file, or a damaged one: {error}") from None
    taken, misfits = [], []
    variables = _named(model)
    for name, variable in variables.items():
        found = [arrays[name]] if name in arrays else []
        misfit = weights.mismatch(f"weight {name!r}", [variable], found)
        if misfit is None:
            taken.append((variable, found[0]))
        else:
            misfits.append(misfit)
    unknown = sorted(set(arrays) - set(variables))
    if unknown:
        misfits.append(f"the file has weights {unknown}, which the model has not")
    weights.assign(taken, misfits, skip_mismatch)
