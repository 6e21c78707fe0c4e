"""Sequences of unequal length to one array."""

import numpy as np


def pad_sequences(
    sequences,
    maxlen: int | None = None,
    dtype="int32",
    padding: str = "pre",
    truncating: str = "pre",
    value=0.0,
) -> np.ndarray:
    """Pad or cut `sequences` to one length: (n, maxlen, *shape of one step).

    `maxlen` defaults to the longest length. `padding` and `truncating` name the end ("pre" or
    "post") where `value` is added or steps are dropped. Raises ValueError for anything but sized
    sequences whose steps agree in shape. As keras.utils.pad_sequences.
    """
    for name, side in (("padding", padding), ("truncating", truncating)):
        if side not in ("pre", "post"):
            raise ValueError(f'{name}: expected "pre" or "post", received {side!r}')
    if not hasattr(sequences, "__len__"):
        raise ValueError(
            "sequences: expected a list or an array of sequences, "
            f"received {type(sequences).__name__}"
        )
    lengths = [_length(sequence, i) for i, sequence in enumerate(sequences)]
    if maxlen is None:
        if not lengths:
            raise ValueError("maxlen: expected an integer, as sequences is empty; received None")
        maxlen = max(lengths)
    elif maxlen < 1:
        raise ValueError(f"maxlen: expected an integer >= 1, received {maxlen}")
    dtype = np.dtype(dtype)
    if isinstance(value, str) and dtype.kind not in "OUS":
        raise ValueError(
            f"dtype: expected object or a string type for value={value!r}, received {dtype}"
        )

    first = next((s for s, length in zip(sequences, lengths, strict=True) if length), ())
    step_shape = np.asarray(first).shape[1:]
    out = np.full((len(lengths), maxlen, *step_shape), value, dtype=dtype)
    for i, (row, sequence, length) in enumerate(zip(out, sequences, lengths, strict=True)):
        if not length:
            continue
        kept = sequence[-maxlen:] if truncating == "pre" else sequence[:maxlen]
        kept = np.asarray(kept, dtype=dtype)
        if kept.shape[1:] != step_shape:
            raise ValueError(
                f"sequences[{i}]: expected steps of shape {step_shape} as in the first sequence, "
                f"received {kept.shape[1:]}"
            )
        if padding == "pre":
            row[-len(kept) :] = kept
        else:
            row[: len(kept)] = kept
    return out


def _length(sequence, position: int) -> int:
    try:
        return len(sequence)
    except TypeError:
        raise ValueError(
            f"sequences[{position}]: expected a sequence, received {sequence!r}"
        ) from None
