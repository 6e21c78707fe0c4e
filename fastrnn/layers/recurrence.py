"""The recurrent cells in NumPy, for what the fused kernels do not do: activations whose derivative
does not follow from their output, and recurrent dropout with its mask per gate. Slower, equally
right."""

import numpy as np

from fastrnn import activations


class Recurrence:
    """One pass of one direction: forward, then at most once backward. A subclass is a cell.

    x (batch, timesteps, features) in the order of processing, mask (batch, timesteps) or None.
    input_masks, recurrent_masks: None, or dropout masks (batch, features) and (batch, units), one
    for each gate."""

    def __init__(self, layer, input_masks, recurrent_masks):
        count = layer.gates
        self.units, self.activation = layer.units, layer.activation
        self.recurrent_activation = getattr(layer, "recurrent_activation", None)
        self.kernels = np.split(layer.kernel.value, count, axis=1)
        self.recurrent_kernels = np.split(layer.recurrent_kernel.value, count, axis=1)
        self.biases = self.recurrent_biases = np.zeros((count, self.units), np.float32)
        if layer.use_bias:
            biases = layer.bias.value.reshape(-1, count, self.units)
            self.biases = biases[0]
            if len(biases) == 2:
                self.recurrent_biases = biases[1]
        self.input_masks = input_masks or [None] * count
        self.recurrent_masks = recurrent_masks or [None] * count

    def step(self, from_input, *states):
        """from_input: x W + b (batch, units) of each gate. The new states, and what back needs."""
        raise NotImplementedError

    def back(self, kept, *gradients):
        """gradients: of the new states. Those of from_input, and of the states before."""
        raise NotImplementedError

    def product(self, h, gate):
        mask = self.recurrent_masks[gate]
        return _kept(h, mask) @ self.recurrent_kernels[gate] + self.recurrent_biases[gate]

    def product_back(self, h, gate, d):
        """Takes in the weights' gradients of a product; returns that of h."""
        mask = self.recurrent_masks[gate]
        self.drecurrent[gate] += _kept(h, mask).T @ d
        self.drecurrent_biases[gate] += d.sum(axis=0)
        return _kept(d @ self.recurrent_kernels[gate].T, mask)

    def forward(self, x, mask, zero_output, states, y, last):
        """Returns the last states; fills y (batch, timesteps, units) and last (batch, units) unless
        they are None."""
        self.x, self.mask, self.steps = x, mask, []
        from_input = [
            _kept_at_all_steps(x, kept) @ kernel + bias
            for kept, kernel, bias in zip(self.input_masks, self.kernels, self.biases, strict=True)
        ]
        out = np.zeros((len(x), self.units), np.float32)
        for t in range(x.shape[1]):
            new, kept = self.step([z[:, t] for z in from_input], *states)
            self.steps.append(kept)
            if mask is None:
                states, out = new, new[0]
            else:
                on = mask[:, t, None]
                states = [np.where(on, n, s) for n, s in zip(new, states, strict=True)]
                out = np.where(on, new[0], 0 if zero_output else out)
            if y is not None:
                y[:, t] = out
        if last is not None:
            last[...] = out
        return [np.ascontiguousarray(state, np.float32) for state in states]

    def backward(self, dh_of_step, dstates, gradients, need_dx):
        """dh_of_step (batch, timesteps, units) or None: gradients of h at unmasked steps; dstates:
        of the last states. Fills gradients (kernel, recurrent_kernel, bias or None); returns dx and
        the gradients of the first states."""
        x, mask = self.x, self.mask
        count = len(self.kernels)
        self.drecurrent = [np.zeros_like(u) for u in self.recurrent_kernels]
        self.drecurrent_biases = np.zeros_like(self.recurrent_biases)
        d_all = np.empty((count, *x.shape[:2], self.units), np.float32)
        for t in reversed(range(x.shape[1])):
            dh, *others = dstates
            if dh_of_step is not None:
                dh = dh + dh_of_step[:, t]
            here = carried = [dh, *others]
            if mask is not None:
                on = mask[:, t, None]
                here = [np.where(on, d, 0) for d in here]
            d_input, before = self.back(self.steps[t], *here)
            for gate, d in enumerate(d_input):
                d_all[gate, :, t] = d
            if mask is not None:
                before = [np.where(on, b, c) for b, c in zip(before, carried, strict=True)]
            dstates = before
        dx = np.zeros_like(x) if need_dx else None
        dkernels = []
        for kept, kernel, d in zip(self.input_masks, self.kernels, d_all, strict=True):
            dkernels.append(np.tensordot(_kept_at_all_steps(x, kept), d, ((0, 1), (0, 1))))
            if need_dx:
                dx += _kept_at_all_steps(d @ kernel.T, kept)
        gradients[0][...] = np.concatenate(dkernels, axis=1)
        gradients[1][...] = np.concatenate(self.drecurrent, axis=1)
        if gradients[2] is not None:
            biases = gradients[2].reshape(-1, count, self.units)
            biases[0] = d_all.sum(axis=(1, 2))
            if len(biases) == 2:
                biases[1] = self.drecurrent_biases
        return dx, dstates


class LSTMRecurrence(Recurrence):
    def step(self, from_input, h, c):
        z = [part + self.product(h, gate) for gate, part in enumerate(from_input)]
        rec = self.recurrent_activation
        i, f, g, o = rec(z[0]), rec(z[1]), self.activation(z[2]), rec(z[3])
        c_new = f * c + i * g
        a = self.activation(c_new)
        return [o * a, c_new], (h, c, z, (i, f, g, o), c_new, a)

    def back(self, kept, dh, dc):
        h, c, z, gates, c_new, a = kept
        i, f, g, o = gates
        dc = dc + activations.gradient_of(self.activation)(c_new, a, dh * o)
        functions = [self.recurrent_activation] * 4
        functions[2] = self.activation
        d_gates = (dc * g, dc * c, dc * i, dh * a)
        dz = [
            activations.gradient_of(function)(z[n], gates[n], d)
            for n, (function, d) in enumerate(zip(functions, d_gates, strict=True))
        ]
        return dz, [sum(self.product_back(h, n, d) for n, d in enumerate(dz)), dc * f]


class GRURecurrence(Recurrence):
    def __init__(self, layer, input_masks, recurrent_masks):
        super().__init__(layer, input_masks, recurrent_masks)
        self.reset_after = layer.reset_after

    def step(self, from_input, h):
        rec = self.recurrent_activation
        pre_z, pre_r = (from_input[n] + self.product(h, n) for n in (0, 1))
        z, r = rec(pre_z), rec(pre_r)
        share = self.product(h, 2) if self.reset_after else None
        pre_n = from_input[2] + (r * share if self.reset_after else self.product(r * h, 2))
        n = self.activation(pre_n)
        return [z * h + (1 - z) * n], (h, pre_z, pre_r, pre_n, z, r, n, share)

    def back(self, kept, dh):
        h, pre_z, pre_r, pre_n, z, r, n, share = kept
        rec = activations.gradient_of(self.recurrent_activation)
        dn = activations.gradient_of(self.activation)(pre_n, n, dh * (1 - z))
        dz = rec(pre_z, z, dh * (h - n))
        if self.reset_after:
            dr = rec(pre_r, r, dn * share)
            before = self.product_back(h, 2, dn * r)
        else:
            d_reset = self.product_back(r * h, 2, dn)
            dr = rec(pre_r, r, d_reset * h)
            before = d_reset * r
        before = before + dh * z + self.product_back(h, 0, dz) + self.product_back(h, 1, dr)
        return [dz, dr, dn], [before]


class SimpleRecurrence(Recurrence):
    def step(self, from_input, h):
        z = from_input[0] + self.product(h, 0)
        new = self.activation(z)
        return [new], (h, z, new)

    def back(self, kept, dh):
        h, z, new = kept
        dz = activations.gradient_of(self.activation)(z, new, dh)
        return [dz], [self.product_back(h, 0, dz)]


def _kept(values, mask):
    return values if mask is None else values * mask


def _kept_at_all_steps(values, mask):
    return values if mask is None else values * mask[:, None]
