"""GRU and SimpleRNN in float64, as tests/oracle.py has the LSTM."""

import numpy as np
from oracle import activate, activate_backward


class GRU:
    """Gates z, r, h. With reset_after the bias is (2, 3 units) and r multiplies the product with
    the recurrent kernel, otherwise the state before that product and the bias is (3 units)."""

    def __init__(self, reset_after):
        self.reset_after = reset_after

    def step(self, x, h, w, u, b, act, rec):
        units = len(u)
        b_x, b_h = (b if self.reset_after else (b, 0 * b)) if b is not None else (0, 0)
        from_x, from_h = x @ w + b_x, h @ u + b_h
        pre_z = from_x[:, :units] + from_h[:, :units]
        pre_r = from_x[:, units : 2 * units] + from_h[:, units : 2 * units]
        z, r = activate(rec, pre_z), activate(rec, pre_r)
        if self.reset_after:
            share = from_h[:, 2 * units :]
            pre_n = from_x[:, 2 * units :] + r * share
        else:
            share = None
            pre_n = from_x[:, 2 * units :] + (r * h) @ u[:, 2 * units :]
        n = activate(act, pre_n)
        return z * h + (1 - z) * n, (x, h, pre_z, pre_r, pre_n, z, r, n, share)

    def back(self, kept, dh, w, u, b, act, rec):
        """Gradients of x, h and the weights; dh is that of the step's result."""
        x, h, pre_z, pre_r, pre_n, z, r, n, share = kept
        units = len(u)
        dn = activate_backward(act, pre_n, dh * (1 - z))
        dz = activate_backward(rec, pre_z, dh * (h - n))
        u_n = u[:, 2 * units :]
        if self.reset_after:
            dr = activate_backward(rec, pre_r, dn * share)
            from_h = np.concatenate([dz, dr, dn * r], axis=1)
            du = h.T @ from_h
            dh_before = dh * z + from_h @ u.T
        else:
            d_reset = dn @ u_n.T
            dr = activate_backward(rec, pre_r, d_reset * h)
            from_h = np.concatenate([dz, dr], axis=1)
            du = np.concatenate([h.T @ from_h, (r * h).T @ dn], axis=1)
            dh_before = dh * z + d_reset * r + from_h @ u[:, : 2 * units].T
        from_x = np.concatenate([dz, dr, dn], axis=1)
        db = from_x.sum(axis=0)
        if self.reset_after:
            db = np.stack([db, from_h.sum(axis=0)])
        return from_x @ w.T, dh_before, x.T @ from_x, du, db


class SimpleRNN:
    def step(self, x, h, w, u, b, act, rec):
        z = x @ w + h @ u + (0 if b is None else b)
        return activate(act, z), (x, h, z)

    def back(self, kept, dh, w, u, b, act, rec):
        x, h, z = kept
        dz = activate_backward(act, z, dh)
        return dz @ w.T, dz @ u.T, x.T @ dz, h.T @ dz, dz.sum(axis=0)


def forward(
    cell, x, kernel, recurrent_kernel, bias, *, activation="tanh", recurrent_activation="sigmoid",
    mask=None, h0=None, go_backwards=False, zero_output_for_mask=False,
):  # fmt: skip
    """(B, T, F) -> outputs (B, T, H) in the order of processing, h (B, H), cache."""
    x = np.asarray(x, np.float64)
    weights = (kernel, recurrent_kernel, bias, activation, recurrent_activation)
    batch, timesteps, _ = x.shape
    h = np.zeros((batch, len(recurrent_kernel))) if h0 is None else h0
    output, outputs, steps = np.zeros_like(h), [], []
    for t in reversed(range(timesteps)) if go_backwards else range(timesteps):
        new, kept = cell.step(x[:, t], h, *weights)
        seen = np.ones((batch, 1), bool) if mask is None else np.asarray(mask, bool)[:, t, None]
        steps.append((t, seen, kept))
        h = np.where(seen, new, h)
        output = np.where(seen, new, 0.0 if zero_output_for_mask else output)
        outputs.append(output)
    cache = {
        "cell": cell, "x": x, "weights": weights, "steps": steps, "zero": zero_output_for_mask,
    }  # fmt: skip
    return np.stack(outputs, axis=1), h, cache


def backward(dy, dh, cache):
    """Gradients of x, kernel, recurrent_kernel, bias and h0; dh, of the last state, may be None."""
    weights, x = cache["weights"], cache["x"]
    kernel, recurrent_kernel, bias = weights[:3]
    dx, dkernel, drecurrent = np.zeros_like(x), 0.0, 0.0
    dbias = 0.0
    dh = np.zeros_like(dy[:, 0]) if dh is None else dh
    doutput = np.zeros_like(dh)
    for position, (t, seen, kept) in reversed(list(enumerate(cache["steps"]))):
        doutput = doutput + dy[:, position]
        new = np.where(seen, dh + doutput, 0.0)
        dh = np.where(seen, 0.0, dh)
        doutput = np.where(seen, 0.0, 0.0 if cache["zero"] else doutput)
        dx[:, t], before, dw, du, db = cache["cell"].back(kept, new, *weights)
        dh = dh + before
        dkernel, drecurrent, dbias = dkernel + dw, drecurrent + du, dbias + db
    return {
        "x": dx,
        "kernel": dkernel,
        "recurrent_kernel": drecurrent,
        "bias": None if bias is None else dbias,
        "h0": dh,
    }
