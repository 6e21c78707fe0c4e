"""Convolutional LSTMs through time (Shi et al. 2015): the windows that each pixel sees of x and of
the state are the features of one step of an LSTM, in the engine or in NumPy."""

import numpy as np

from fastrnn import _engine, activations

GATES = 4


class Records:
    """How what is seen of x and of the state lies in memory, so that no window has to be gathered.

    A record is one column of all rows that a row of windows sees: `rows` pixels of the state (one
    after another for each gate that sees it through a mask of its own), then of x. A row of outputs
    has as many records as its frame has columns, and a window is `columns` of them side by side:
    windows overlap. Where the frame ends, they reach into the next row's records: of the last
    columns - 1 windows of each row nothing is used.

    Windows of x that are not one pixel apart, or have holes, lie whole in the record at which the
    output's window begins.

    down, across: Windows of x along both axes; sizes: height and width of x; h_copies, x_copies: 1,
    or one for each gate."""

    def __init__(self, down, across, sizes, channels, filters, h_copies, x_copies):
        self.rows, self.columns = down.size, across.size
        self.height, self.width = down.count(sizes[0]), across.count(sizes[1])
        self.frame_width = self.width + self.columns - 1
        self.channels, self.filters = channels, filters
        self.h_copies, self.x_copies = h_copies, x_copies
        self.together = all(w.stride == w.dilation == 1 for w in (down, across))
        of_x = self.rows * channels * (1 if self.together else self.columns)
        self.h_size = h_copies * self.rows * filters
        self.size = self.h_size + x_copies * of_x
        self.features = self.columns * self.size

        top, self.left = ((size - 1) // 2 for size in (self.rows, self.columns))
        self.of_h = []  # (gate, slice of the record, rows of records, rows of the state)
        for gate in range(h_copies):
            for i in range(self.rows):
                at, shift = (gate * self.rows + i) * filters, i - top
                first, end = max(0, -shift), max(0, self.height - max(0, shift))
                rows = slice(first, max(first, end))
                seen = slice(rows.start + shift, rows.stop + shift)
                self.of_h.append((gate, slice(at, at + filters), rows, seen))
        self.of_x = []  # (gate, slice of the record, its rows and columns, those of x)
        for gate in range(x_copies):
            at = self.h_size + gate * of_x
            for seen, rows in down.places(sizes[0]):
                for columns, seen_columns in self._columns_of_x(across, sizes[1]):
                    part = slice(at, at + channels)
                    self.of_x.append((gate, part, (rows, columns), (seen, seen_columns)))
                    at += channels

    def _columns_of_x(self, across, width):
        if not self.together:
            return [(columns, seen) for seen, columns in across.places(width)]
        before = across.before(width)
        return [(slice(before, before + width), slice(0, width))]

    def count(self, batch):
        """How many windows there are, used or not."""
        return batch * self.height * self.frame_width

    def floats(self, batch):
        """The memory of all records: the last windows reach beyond those of the last row."""
        return (self.count(batch) + self.columns - 1) * self.size

    def view(self, memory, batch):
        """The records in `memory`, (batch, height, frame width, size)."""
        records = memory[: self.count(batch) * self.size]
        return records.reshape(batch, self.height, self.frame_width, self.size)

    def windows(self, memory, batch):
        """The windows in `memory`, (windows, 1, features)."""
        step = 4 * self.size
        shape = (self.count(batch), 1, self.features)
        return np.ndarray(shape, np.float32, memory, 0, (step, step, 4))

    def used(self, array, batch):
        """Of an array of all windows (windows, n) the used, (batch, height, width, n)."""
        whole = array.reshape(batch, self.height, self.frame_width, array.shape[-1])
        return whole[:, :, : self.width]

    def unused(self, array, batch):
        """Of the same the others."""
        whole = array.reshape(batch, self.height, self.frame_width, array.shape[-1])
        return whole[:, :, self.width :]

    def of_state(self, records):
        """Of `records` the columns in which the state lies."""
        return records[:, :, self.left : self.left + self.width]

    def pairs(self, matrix, kernel, recurrent):
        """Views of blocks of `matrix` (features, 4 filters), which windows are multiplied by, with
        those of the weights, or their gradients, that belong there."""
        matrix = matrix.reshape(self.columns, self.size, GATES * self.filters)
        h_part, x_part = matrix[:, : self.h_size], matrix[:, self.h_size :]
        places = self.rows, self.columns
        kernel, recurrent = (w.reshape(*places, *w.shape[-2:]) for w in (kernel, recurrent))
        if not self.together:
            x_part, kernel = x_part[:1], kernel.reshape(-1, 1, *kernel.shape[2:])
        parts = (h_part, recurrent, self.h_copies), (x_part, kernel, self.x_copies)
        for part, weights, copies in parts:
            weights = weights.swapaxes(0, 1)
            part = part.reshape(len(part), copies, *weights.shape[1:])
            for gate in range(copies):
                columns = slice(None)
                if copies > 1:
                    columns = slice(gate * self.filters, (gate + 1) * self.filters)
                yield part[:, gate, ..., columns], weights[..., columns]

    def matrix(self, kernel, recurrent):
        matrix = np.zeros((self.features, GATES * self.filters), np.float32)
        for block, weights in self.pairs(matrix, kernel, recurrent):
            block[...] = weights
        return matrix


class EngineSteps:
    """The time steps of a pass in the engine, forward and then backward."""

    def __init__(self, layer, run, records):
        self.packed = layer.packed_of(records, run)
        self.codes, self.keeps = layer.step_codes, run.keeps
        self.engines = run.saved.setdefault((layer, "engines"), [])
        shape = records.filters, GATES * records.filters
        self.nothing = run.empty(layer, "gradient of nothing", shape)

    def forward(self, t, windows, c, h_new, c_new):
        place = t if self.keeps else 0
        if len(self.engines) <= place:
            self.engines.append(_engine.RNNRun())
        self.engines[place].set_direction(
            0, self.packed, *self.codes, windows, None, False, None, c, None, None, h_new, c_new
        )
        self.engines[place].forward(self.keeps)

    def backward(self, t, windows, dh, dc, dmatrix, dbias, dwindows, dc_before):
        engine = self.engines[t]
        engine.set_gradients(
            0, dmatrix, self.nothing, dbias, None, dh, dc, dwindows[:, None], False, None, dc_before
        )
        engine.backward()


class NumPySteps:
    """The same in NumPy, for activations that the engine lacks."""

    def __init__(self, layer, run, records):
        self.layer, self.run, self.records = layer, run, records
        self.matrix = records.matrix(layer.kernel.value, layer.recurrent_kernel.value)
        self.kept = []

    def forward(self, t, windows, c, h_new, c_new):
        layer, records = self.layer, self.records
        batch = len(windows) // records.count(1)
        rows = np.ascontiguousarray(windows[:, 0])
        z = rows @ self.matrix
        if layer.use_bias:
            z += layer.bias.value
        z = [self._inner(part, batch) for part in np.split(z, GATES, axis=1)]
        functions = [layer.recurrent_activation] * GATES
        functions[2] = layer.activation
        i, f, g, o = gates = [function(part) for function, part in zip(functions, z, strict=True)]
        before = self._inner(c, batch)
        after = f * before + i * g
        a = layer.activation(after)
        h_new[...], c_new[...] = 0, 0
        self._inner(h_new, batch)[...] = o * a
        self._inner(c_new, batch)[...] = after
        if self.run.keeps:
            self.kept.append((functions, before.copy(), z, gates, after, a))

    def _inner(self, array, batch):
        """The used windows of (windows, filters), in the layer's own order of axes."""
        return self.layer.own_order(self.records.used(array, batch))

    def backward(self, t, windows, dh, dc, dmatrix, dbias, dwindows, dc_before):
        functions, before, z, gates, after, a = self.kept[t]
        batch = len(before)
        i, f, g, o = gates
        dh, dc = self._inner(dh, batch), self._inner(dc, batch)
        dc = dc + activations.gradient_of(functions[2])(after, a, dh * o)
        dgates = dc * g, dc * before, dc * i, dh * a
        dz = np.zeros((len(dwindows), GATES * self.records.filters), np.float32)
        parts = zip(functions, z, gates, dgates, np.split(dz, GATES, axis=1), strict=True)
        for function, pre, gate, dgate, part in parts:
            self._inner(part, batch)[...] = activations.gradient_of(function)(pre, gate, dgate)
        dc_before[...] = 0
        self._inner(dc_before, batch)[...] = dc * f
        rows = np.ascontiguousarray(windows[:, 0])
        np.matmul(rows.T, dz, out=dmatrix)
        if dbias is not None:
            dz.sum(axis=0, out=dbias)
        np.matmul(dz, self.matrix.T, out=dwindows)


class ConvRecurrence:
    """One pass of one direction, as recurrence.Recurrence: forward, then at most once backward.

    x (batch, timesteps, ...) is in the order of processing; its axes, those of states and of the
    dropout masks, one for each gate or None, are the layer's own."""

    def __init__(self, layer, run, input_masks, recurrent_masks):
        self.layer, self.run = layer, run
        self.input_masks, self.recurrent_masks = (
            masks and [layer.as_images(mask, 1) for mask in masks]
            for masks in (input_masks, recurrent_masks)
        )

    def forward(self, x, mask, zero_output, states, y, last):
        """Returns the last states; fills y (batch, timesteps, ...) and last (batch, ...) unless
        they are None."""
        layer, run = self.layer, self.run
        x = self.x = layer.as_images(x, 2)
        y = None if y is None else layer.as_images(y, 2)
        last = None if last is None else layer.as_images(last, 1)
        batch, steps, *sizes, channels = x.shape
        records = self.records = layer.records(
            sizes, channels, *(GATES if m else 1 for m in (self.recurrent_masks, self.input_masks))
        )
        mask = self.mask = self._mask_of_images(mask)
        self.memory = self._memory(steps if run.keeps else 1)
        self.steps = (NumPySteps if layer.step_codes is None else EngineSteps)(layer, run, records)
        shape = (2, records.count(batch), records.filters)
        hs, cs = run.empty(layer, "h", shape), run.empty(layer, "c", shape)
        for first, state in ((hs[0], states[0]), (cs[0], states[1])):
            first[...] = 0
            records.used(first, batch)[...] = layer.as_images(state, 1)
        if last is not None:
            last[...] = 0
        for t in range(steps):
            (h, h_new), (c, c_new) = (pair[:: -1 if t % 2 else 1] for pair in (hs, cs))
            memory = self.memory[t % len(self.memory)]
            self._show(records.view(memory, batch), records.used(h, batch), x[:, t])
            self.steps.forward(t, records.windows(memory, batch), c, h_new, c_new)
            records.unused(c_new, batch)[...] = 0
            shown = records.used(h_new, batch)
            off = None if mask is None else ~mask[:, t]
            if off is None or not off.any():
                if y is not None:
                    y[:, t] = shown
                elif mask is not None or t == steps - 1:
                    last[...] = shown
                continue
            for new, old in ((h_new, h), (c_new, c)):
                records.used(new, batch)[off] = records.used(old, batch)[off]
            if y is not None:
                y[:, t] = shown
                y[:, t][off] = 0 if zero_output or t == 0 else y[:, t - 1][off]
            else:
                last[~off] = shown[~off]
                if zero_output:
                    last[off] = 0
        return [layer.own_axes(records.used(pair[steps % 2], batch)).copy() for pair in (hs, cs)]

    def _mask_of_images(self, mask):
        """One (batch, timesteps), or with the first axes of an image too."""
        if mask is None:
            return None
        layer, records = self.layer, self.records
        sizes = (records.height, records.width)[-layer.rank :]
        most = (*self.x.shape[:2], *(sizes if layer.data_format == "channels_last" else ()))
        if mask.ndim < 2 or mask.shape != most[: mask.ndim]:
            raise ValueError(
                f"mask: expected shape {most}, or its first axes, for layer {layer.name!r}, "
                f"received {mask.shape}"
            )
        return np.expand_dims(mask, 2) if mask.ndim > 2 and layer.rank == 1 else mask

    def _memory(self, count):
        """That of the records of so many steps. It was zeros, and what lies outside of the images
        still is."""
        records, key = self.records, (self.layer, "records")
        batch = len(self.x)
        wanted = (count, batch, records.height, records.frame_width, records.size)
        kept, memory = self.run.saved.get(key, (None, None))
        if kept != wanted:
            memory = np.zeros((count, records.floats(batch)), np.float32)
            self.run.saved[key] = wanted, memory
        return memory

    def _show(self, to, h, x):
        """Write the state before a step, and its x, to where the windows see them."""
        records = self.records
        of_state = records.of_state(to)
        for gate, part, rows, seen in records.of_h:
            values = h[:, seen]
            if self.recurrent_masks:
                values = values * self.recurrent_masks[gate][:, seen]
            of_state[:, rows, :, part] = values
        for gate, part, (rows, columns), (seen, seen_columns) in records.of_x:
            values = x[:, seen, seen_columns]
            if self.input_masks:
                values = values * self.input_masks[gate][:, seen, seen_columns]
            to[:, rows, columns, part] = values

    def backward(self, dh_of_step, dstates, gradients, need_dx):
        """dh_of_step (batch, timesteps, ...) or None: gradients of h at unmasked steps; dstates: of
        the last states. Fills gradients (kernel, recurrent_kernel, bias or None); returns dx and
        the gradients of the first states."""
        layer, run, records = self.layer, self.run, self.records
        batch, steps = self.x.shape[:2]
        count, filters = records.count(batch), records.filters
        if dh_of_step is not None:
            dh_of_step = layer.as_images(dh_of_step, 2)
        dx = run.empty(layer, "dx of images", self.x.shape) if need_dx else None
        if need_dx:
            dx[...] = 0
        dh, *dcs = (run.empty(layer, f"d{name}", (count, filters)) for name in ("h", "c", "c new"))
        for array, end in zip((dh, dcs[0]), dstates, strict=True):
            array[...] = 0
            records.used(array, batch)[...] = layer.as_images(end, 1)
        shape = (records.features, GATES * filters)
        total, matrix = (run.empty(layer, name, shape) for name in ("total", "of a step"))
        bias = (
            gradients[2] if gradients[2] is None else run.empty(layer, "dbias", (GATES * filters,))
        )
        dwindows = run.empty(layer, "dwindows", (count, records.features))
        drecords = run.empty(layer, "drecords", (records.floats(batch),))
        used = records.used(dh, batch)
        for t in reversed(range(steps)):
            dc, dc_before = dcs
            if dh_of_step is not None:
                used += dh_of_step[:, t]
            off = None if self.mask is None else ~self.mask[:, t]
            if off is not None:
                carried = used[off], records.used(dc, batch)[off]
                used[off] = records.used(dc, batch)[off] = 0
            first = t == steps - 1
            windows = records.windows(self.memory[t], batch)
            self.steps.backward(
                t, windows, dh, dc, total if first else matrix, gradients[2] if first else bias,
                dwindows, dc_before,
            )  # fmt: skip
            if not first:
                total += matrix
                if bias is not None:
                    gradients[2] += bias
            self._sum(dwindows, drecords, need_dx)
            self._give_back(records.view(drecords, batch), used, dx[:, t] if need_dx else None)
            if off is not None:
                used[off] += carried[0]  # pixels that are on may have seen it too
                records.used(dc_before, batch)[off] = carried[1]
            dcs.reverse()
        for block, weights in records.pairs(total, *gradients[:2]):
            weights[...] = block
        begins = [layer.own_axes(records.used(array, batch)) for array in (dh, dcs[0])]
        return layer.own_axes(dx, 2) if need_dx else None, begins

    def _sum(self, dwindows, drecords, with_x):
        """The gradients of records from those of the windows that they are in."""
        size, count = self.records.size, len(dwindows)
        end = size if with_x else self.records.h_size
        flat = drecords.reshape(-1, size)[:, :end]
        flat[:count], flat[count:] = dwindows[:, :end], 0
        for j in range(1, self.records.columns):
            flat[j : count + j] += dwindows[:, j * size : j * size + end]

    def _give_back(self, of_records, dh, dx):
        """The gradients of what _show wrote: dh is overwritten, dx (or None) is added to."""
        records = self.records
        of_state = records.of_state(of_records)
        dh[...] = 0
        for gate, part, rows, seen in records.of_h:
            values = of_state[:, rows, :, part]
            if self.recurrent_masks:
                values = values * self.recurrent_masks[gate][:, seen]
            dh[:, seen] += values
        for gate, part, (rows, columns), (seen, seen_columns) in records.of_x:
            if dx is None:
                break
            values = of_records[:, rows, columns, part]
            if self.input_masks:
                values = values * self.input_masks[gate][:, seen, seen_columns]
            dx[:, seen, seen_columns] += values
