"""What one pass through a network needs beside the weights."""

import math

import numpy as np


class Run:
    """Buffers, and what forward keeps for backward. Layers hold no state of a pass themselves, so
    that several threads can predict with one model, each with a Run of its own.

    training: whether dropout drops and batch statistics are used and learned.
    saved: what a layer's forward keeps for its backward, by layer.
    logits_of: the layer whose activation the loss computes itself, or None.
    losses: terms that activity regularizers add to the loss.
    updates: (variable, share, target) of batch statistics: what training moves, and how far, beside
    the optimizer; see apply_updates.
    prepare: do at once in inference what else waits until it has proved worth its time.
    states: the states, by recurrent layer, that a plan starts from and replaces."""

    def __init__(self, training=False, prepare=False):
        self.training = training
        self.prepare = prepare
        self.saved = {}
        self.logits_of = None
        self.losses = []
        self.updates = []
        self.states = {}
        self._views = {}
        self._memory = {}
        self._children = {}

    def empty(self, owner, name, shape, dtype=np.float32):
        """An array whose memory is reused from pass to pass."""
        key = (owner, name)
        view = self._views.get(key)
        if view is not None and view.shape == shape:
            return view
        size = math.prod(shape)
        memory = self._memory.get(key)
        if memory is None or memory.size < size or memory.size > 4 * size + 4096:
            memory = self._memory[key] = np.empty(size, dtype)
        view = self._views[key] = memory[:size].reshape(shape)
        return view

    def packed(self, layer, version, make):
        """(the layer's weights in the kernels' order, whether they are of this version): of a run
        that trains in the same memory each time, else in new memory, which make() gives, as other
        threads may be using the old. What was packed is to be kept with keep_packed."""
        packed = self.saved.get((layer, "packed")) if self.training else layer._packed
        if packed is not None and packed.version == version:
            return packed, True
        return (make() if packed is None or not self.training else packed), False

    def keep_packed(self, layer, packed, version):
        packed.version = version
        if self.training:
            self.saved[layer, "packed"] = packed
        else:
            layer._packed = packed

    def child(self, owner, index):
        """A Run within this one, for a wrapper that runs its layer several times."""
        key = (owner, index)
        if key not in self._children:
            self._children[key] = Run()
        child = self._children[key]
        child.training, child.losses, child.updates = self.training, self.losses, self.updates
        return child

    def apply_updates(self):
        """Move each variable of `updates` by its share of the way to its target."""
        for variable, share, target in self.updates:
            variable.value += share * (target - variable.value)
        self.updates.clear()
