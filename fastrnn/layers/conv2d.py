"""Conv2D: a dense layer over windows of images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastrnn import _engine, activations
from fastrnn.layers import legacy
from fastrnn.layers.base import WeightOptions, engine_activation
from fastrnn.layers.convolution import Convolution
from fastrnn.layers.dense import LINEAR
from fastrnn.layers.spatial import Images, check_pair
from fastrnn.layers.temporal import check_padding

if TYPE_CHECKING:
    from fastrnn._types import (
        Convolution2DOptions,
        DataFormat,
        Identifier,
        Initializer,
        Sizes,
        Unpack,
        Whole,
    )

WINDOWS_AT_ONCE = 2**20  # bytes of gathered windows; more images take turns


class Conv2D(Convolution, Images):
    """(batch, height, width, channels) -> (batch, rows, columns, filters), float32; no flipped
    kernel.

    kernel_size, strides and dilation_rate: one number for both axes, or (height, width). padding:
    "valid" or "same". data_format "channels_first" puts the channels before the height. strides and
    dilation_rate may not both exceed 1. groups: each of so many parts of the channels makes its
    part of the filters alone. Weights: kernel (*kernel_size, channels / groups, filters), bias
    (filters). Drops a mask. Source: https://keras.io/api/layers/convolution_layers/convolution2d/
    """

    @legacy.rows_and_columns
    @legacy.old_spellings(
        nb_filter="filters", border_mode="padding", subsample="strides", **legacy.WEIGHTS
    )
    def __init__(
        self,
        filters: Whole,
        kernel_size: Sizes,
        strides: Sizes = (1, 1),
        padding: str = "valid",
        data_format: DataFormat = None,
        dilation_rate: Sizes = (1, 1),
        groups: Whole = 1,
        activation: Identifier = None,
        use_bias: bool = True,
        kernel_initializer: Initializer = "glorot_uniform",
        bias_initializer: Initializer = "zeros",
        kernel_regularizer: Identifier = None,
        bias_regularizer: Identifier = None,
        activity_regularizer: Identifier = None,
        kernel_constraint: Identifier = None,
        bias_constraint: Identifier = None,
        **kwargs: Unpack[Convolution2DOptions],
    ):
        super().__init__(
            data_format=data_format, activity_regularizer=activity_regularizer, **kwargs
        )
        self._configure(
            filters,
            check_pair("kernel_size", kernel_size),
            check_pair("strides", strides),
            check_padding(padding, ("valid", "same")),
            check_pair("dilation_rate", dilation_rate),
            groups,
            activation,
            use_bias,
            WeightOptions("kernel", kernel_initializer, kernel_regularizer, kernel_constraint),
            WeightOptions("bias", bias_initializer, bias_regularizer, bias_constraint),
        )

    def forward(self, x, run, mask=None):
        x = self.channels_at_end(x)
        batch, *sizes, _ = x.shape
        packed, code = self._pack(run), engine_activation(self.activation)
        out = run.empty(self, "out", (batch, *self._counts(sizes), self.filters))
        for part in self._parts(out.shape, x.shape):
            rows = self._gather(x[part], out.shape[1:3], run)
            packed.forward(out[part], rows, LINEAR if code is None else code)
        y = z = np.ascontiguousarray(self.own_order(out))
        if code is None:
            y = np.ascontiguousarray(self.activation(z), np.float32)
        if run.keeps:
            run.saved[self] = packed, x, out, z, y, code
        return y

    def backward(self, dy, run, need_dx=True):
        packed, x, out, z, y, code = run.saved[self]
        if code is None:
            dy, code = activations.gradient_of(self.activation)(z, y, dy), LINEAR
        dy = np.ascontiguousarray(self.channels_at_end(dy), np.float32)
        dmatrix, dbias, dkernel = self._gradients(run)
        dx = run.empty(self, "dx", x.shape) if need_dx else None
        turned = self._turned(run) if need_dx and max(self.strides) == 1 else None
        parts = self._parts(out.shape, x.shape)
        for part in parts:
            rows = self._gather(x[part], out.shape[1:3], run)
            scatters = need_dx and turned is None
            drows = run.empty(self, "dwindows", rows.shape) if scatters else None
            first = part is parts[0]
            dm = dmatrix if first else run.empty(self, "dmatrix of a part", dmatrix.shape)
            db = dbias
            if not first and dbias is not None:
                db = run.empty(self, "dbias of a part", dbias.shape)
            packed.backward(drows, dm, db, dy[part], rows, out[part], code)
            if not first:
                dmatrix += dm
                if dbias is not None:
                    dbias += db
            if scatters:
                self._scatter(drows, dx[part], run)
            elif need_dx:
                turned.forward(dx[part], self._gather_turned(dy[part], x.shape, run), LINEAR)
        self._take_blocks(dmatrix, dkernel)
        return np.ascontiguousarray(self.own_order(dx)) if need_dx else None

    def _parts(self, out, x):
        """Slices of the batch whose windows are gathered at once."""
        channels = max(x[3], out[3])
        per_image = 4 * out[1] * out[2] * self.kernel_size[0] * self.kernel_size[1] * channels
        step = max(1, WINDOWS_AT_ONCE // per_image)
        return [slice(start, start + step) for start in range(0, out[0], step)]

    def _frame(self, shape, counts):
        """((height, width) of images with the zeros around them that windows reach,
        (top, left) of the images therein)."""
        sizes, before = [], []
        for windows, size, count in zip(self._windows, shape[1:3], counts, strict=True):
            before.append(windows.before(size))
            sizes.append(max(before[-1] + size, (count - 1) * windows.stride + windows.reach))
        return sizes, before

    def _gather(self, x, counts, run):
        """The windows of images, (batch, rows, columns, place and channel)."""
        return self._windows_of(x, counts, *self._frame(x.shape, counts), self.strides, run, "")

    def _windows_of(self, x, counts, sizes, before, steps, run, name):
        """The windows, `steps` apart, of images within zeros that make them as large as `sizes`."""
        batch, height, width, channels = x.shape
        top, left = before
        if list(sizes) != [height, width] or not x.flags.c_contiguous:
            framed = run.empty(self, "framed" + name, (batch, *sizes, channels))
            framed[:, :top], framed[:, top + height :] = 0, 0
            middle = framed[:, top : top + height]
            middle[:, :, :left], middle[:, :, left + width :] = 0, 0
            middle[:, :, left : left + width] = x
            x = framed
        if (*self.kernel_size, *steps) == (1, 1, 1, 1):
            return x
        of_image, of_row, of_pixel, _ = x.strides
        down, across = self._windows
        shape = (batch, *counts, down.size)
        strides = (of_image, steps[0] * of_row, steps[1] * of_pixel, down.dilation * of_row)
        together = across.size * channels
        if across.dilation > 1:
            shape, strides = (*shape, across.size), (*strides, across.dilation * of_pixel)
            together = channels
        as_one = np.dtype((np.void, 4 * together))  # what lies together is copied as one
        rows = run.empty(self, "windows" + name, (*shape, together))
        view = np.ndarray(shape, as_one, x, 0, strides)
        np.copyto(rows.view(as_one)[..., 0], view)
        return rows.reshape(batch, *counts, -1)

    # The gradient of x is a convolution too where windows are one pixel apart: of the output's
    # gradient, by the kernel turned round. That takes two thirds to nine tenths of a training step
    # that scatters (one thread), as it does elsewhere.

    def _turned(self, run):
        """The kernel turned round, from filters to channels, for the kernels."""
        places = self.kernel_size[0] * self.kernel_size[1]
        matrix = self._matrix().reshape(places, -1, self.filters)
        channels = matrix.shape[1]
        key, version = (self, "turned"), (self.kernel.version, _engine.isa())
        packed, current = run.packed(
            key, version, lambda: _engine.PackedDense(places * self.filters, channels)
        )
        if not current:
            matrix = np.ascontiguousarray(matrix[::-1].swapaxes(1, 2))
            packed.pack(matrix.reshape(-1, channels))
            run.keep_packed(key, packed, version)
        return packed

    def _gather_turned(self, dz, shape, run):
        """The windows of the output's gradient in which the pixels of images of `shape` lie."""
        axes = list(zip(self._windows, shape[1:3], strict=True))
        sizes = [size + windows.reach - 1 for windows, size in axes]
        before = [windows.reach - 1 - windows.before(size) for windows, size in axes]
        return self._windows_of(dz, shape[1:3], sizes, before, (1, 1), run, " of the gradient")

    def _scatter(self, drows, dx, run):
        """Fill dx with the sums, by pixel, of the gradients of windows."""
        batch, height, width, channels = dx.shape
        counts = drows.shape[1:3]
        sizes, (top, left) = self._frame(dx.shape, counts)
        framed = run.empty(self, "dframed", (batch, *sizes, channels))
        framed[...] = 0
        drows = drows.reshape(batch, *counts, *self.kernel_size, channels)
        down, across = self._windows
        for i in range(down.size):
            row = i * down.dilation
            rows = framed[:, row : row + (counts[0] - 1) * down.stride + 1 : down.stride]
            for j in range(across.size):
                column = j * across.dilation
                end = column + (counts[1] - 1) * across.stride + 1
                rows[:, :, column : end : across.stride] += drows[:, :, :, i, j]
        dx[...] = framed[:, top : top + height, left : left + width]
