"""The LSTM in NumPy, for what the fused kernel does not do: activations whose derivative does not
follow from their output, and recurrent dropout with its mask per gate. Slower, equally right."""

import numpy as np

from fastrnn import activations


class Recurrence:
    """One pass of one direction: forward, then at most once backward.

    x (batch, timesteps, features) in the order of processing, mask (batch, timesteps) or None.
    input_masks, recurrent_masks: None, or four dropout masks (batch, features) and (batch, units),
    for the gates i, f, c, o."""

    def __init__(self, weights, activation, recurrent_activation, input_masks, recurrent_masks):
        kernel, recurrent_kernel, bias = weights
        self.kernels = np.split(kernel, 4, axis=1)
        self.recurrent_kernels = np.split(recurrent_kernel, 4, axis=1)
        self.biases = [0] * 4 if bias is None else np.split(bias, 4)
        self.activation = activation
        self.gate_activations = [recurrent_activation, recurrent_activation, activation]
        self.gate_activations.append(recurrent_activation)
        self.input_masks = input_masks or [None] * 4
        self.recurrent_masks = recurrent_masks or [None] * 4

    def forward(self, x, mask, zero_output, h, c, y, last):
        """Returns the last h and c; fills y (batch, timesteps, units) and last (batch, units)
        unless they are None."""
        self.x, self.mask, self.steps = x, mask, []
        batch, timesteps, _ = x.shape
        self.shown = np.zeros(batch, bool)
        from_input = [
            (x if kept is None else x * kept[:, None]) @ kernel + bias
            for kept, kernel, bias in zip(self.input_masks, self.kernels, self.biases, strict=True)
        ]
        out = np.zeros_like(h)
        for t in range(timesteps):
            z = [
                from_input[g][:, t] + _kept(h, self.recurrent_masks[g]) @ self.recurrent_kernels[g]
                for g in range(4)
            ]
            i, f, g, o = (act(v) for act, v in zip(self.gate_activations, z, strict=True))
            c_new = f * c + i * g
            a = self.activation(c_new)
            h_new = o * a
            self.steps.append((h, c, z, (i, f, g, o), c_new, a))
            if mask is None:
                h, c, out = h_new, c_new, h_new
                self.shown[:] = True
            else:
                on = mask[:, t, None]
                h, c = np.where(on, h_new, h), np.where(on, c_new, c)
                out = np.where(on, h_new, 0 if zero_output else out)
                self.shown = mask[:, t] | (self.shown & (not zero_output))
            if y is not None:
                y[:, t] = out
        if last is not None:
            last[...] = out
        return h, c

    def backward(self, dh_of_step, dh, dc, gradients, need_dx):
        """dh_of_step (batch, timesteps, units) or None: gradients of h at unmasked steps; dh, dc:
        of the last states. Fills gradients (kernel, recurrent_kernel, bias or None); returns dx,
        dh0, dc0."""
        x, mask = self.x, self.mask
        dz_all = [np.empty((*x.shape[:2], self.units), np.float32) for _ in range(4)]
        drecurrent = [np.zeros_like(u) for u in self.recurrent_kernels]
        for t in reversed(range(x.shape[1])):
            h, c, z, gates, c_new, a = self.steps[t]
            i, f, g, o = gates
            if dh_of_step is not None:
                dh = dh + dh_of_step[:, t]
            dc_here = dc + activations.gradient_of(self.activation)(c_new, a, dh * o)
            d_gates = (dc_here * g, dc_here * c, dc_here * i, dh * a)
            dh_before = np.zeros_like(dh)
            for n, (act, d) in enumerate(zip(self.gate_activations, d_gates, strict=True)):
                dz = activations.gradient_of(act)(z[n], gates[n], d)
                if mask is not None:
                    dz = dz * mask[:, t, None]
                dz_all[n][:, t] = dz
                drecurrent[n] += _kept(h, self.recurrent_masks[n]).T @ dz
                dh_before += _kept(dz @ self.recurrent_kernels[n].T, self.recurrent_masks[n])
            if mask is None:
                dh, dc = dh_before, dc_here * f
            else:
                on = mask[:, t, None]
                dh = np.where(on, dh_before, dh)
                dc = np.where(on, dc_here * f, dc)
        dx = np.zeros_like(x) if need_dx else None
        dkernel = []
        for n in range(4):
            kept = self.input_masks[n]
            seen = x if kept is None else x * kept[:, None]
            dkernel.append(np.tensordot(seen, dz_all[n], ((0, 1), (0, 1))))
            if need_dx:
                part = dz_all[n] @ self.kernels[n].T
                dx += part if kept is None else part * kept[:, None]
        gradients[0][...] = np.concatenate(dkernel, axis=1)
        gradients[1][...] = np.concatenate(drecurrent, axis=1)
        if gradients[2] is not None:
            gradients[2][...] = np.concatenate([dz.sum(axis=(0, 1)) for dz in dz_all])
        return dx, dh, dc

    @property
    def units(self):
        return self.recurrent_kernels[0].shape[1]


def _kept(values, mask):
    return values if mask is None else values * mask
