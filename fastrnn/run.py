"""What one pass through a network needs beside the weights."""

import math

import numpy as np


class Run:
    """Buffers, and what forward keeps for backward. Layers hold no state of a pass themselves, so
    that several threads can predict with one model, each with a Run of its own.

    training: whether dropout drops and batch statistics are used and learned.
    keeps: whether layers keep what backward needs; it is training where not said.
    saved: what a layer's forward keeps for its backward, by layer.
    logits_of: the layers whose activations the losses compute themselves.
    losses: terms that activity regularizers and users' layers add to the loss; loss_factor: a list
    of the number that the gradient of their sum is, in backward.
    updates: (variable, share, target) of batch statistics: what training moves, and how far, beside
    the optimizer; see apply_updates.
    prepare: do at once in inference what else waits until it has proved worth its time.
    states: the states, by recurrent layer, that a plan starts from and replaces.
    ends: the graph whose inputs' gradients are not wanted, or None.
    walks: what graphs found out about the way of gradients, until other weights are trained.
    rooms: where a plan's arrays come from.
    filled: the weights whose gradients backward has written, where it may meet one a second time,
    whose gradient is then to be added (see add_gradients); None where it meets each once.

    What is kept is found by layer: a layer that is called several times in one pass has a child of
    the Run for each further call (of_call)."""

    def __init__(self, training=False, prepare=False, keeps=None):
        self.training = training
        self.keeps = training if keeps is None else keeps
        self.prepare = prepare
        self.saved = {}
        self.filled = None
        self._packed = {}
        self._added = []
        self.logits_of = ()
        self.losses = []
        self.loss_factor = [1.0]
        self.updates = []
        self.states = {}
        self.ends = None
        self._views = {}
        self._memory = {}
        self._children = {}
        self.walks = {}
        self.masks_of_call = None  # those of the outputs of a user's layer, after its forward
        self.rooms = Rooms()

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
        for backward in the same memory each time, else in new memory, which make() gives, as other
        threads may be using the old. What was packed is to be kept with keep_packed."""
        packed = self._packed.get(layer) if self.keeps else layer._packed
        if packed is not None and packed.version == version:
            return packed, True
        return (make() if packed is None or not self.keeps else packed), False

    def keep_packed(self, layer, packed, version):
        packed.version = version
        if self.keeps:
            self._packed[layer] = packed
        else:
            layer._packed = packed

    def child(self, owner, index):
        """A Run within this one, for one of several passes through the same layers."""
        key = (owner, index)
        if key not in self._children:
            self._children[key] = self._new_child()
        child = self._children[key]
        child.training, child.prepare, child.keeps = self.training, self.prepare, self.keeps
        child.losses, child.updates, child.filled = self.losses, self.updates, self.filled
        child._packed, child._added = self._packed, self._added
        child.walks, child.rooms, child.loss_factor = self.walks, self.rooms, self.loss_factor
        return child

    def _new_child(self):
        return Run()

    def of_call(self, layer, number):
        """The Run of a layer's call, counted from 0, in this pass."""
        return self.child(layer, number) if number else self

    def of_mode(self, layer, number, training):
        """The same, of a call that says itself whether it is training."""
        run = self.child(layer, (number, training))
        run.training = training
        return run

    def gradient_array(self, layer, variable):
        """Where backward writes a weight's gradient: scratch if the weight is not trained, or if
        its gradient has been written before in this pass."""
        if variable.gradient is None:
            return self.empty(variable, "unused gradient", variable.shape)
        if self.filled is not None:
            if variable in self.filled:
                more = self.empty(variable, "more gradient", variable.shape)
                self._added.append((variable, more))
                return more
            self.filled.add(variable)
        return variable.gradient

    def add_gradients(self):
        """Add what the last backward of a layer wrote beside the gradients of its weights."""
        if not self._added:
            return
        for variable, more in self._added:
            variable.gradient += more
        self._added.clear()

    def forget_gradients(self, filled):
        """Begin or end a backward in which weights may be met several times, or not (None)."""
        self.filled = filled
        self._added.clear()

    def apply_updates(self):
        """Move each variable of `updates` by its share of the way to its target."""
        for variable, share, target in self.updates:
            variable.value += share * (target - variable.value)
        self.updates.clear()


class TapedRun(Run):
    """The Run of one call on the tape. Gradients of weights come into arrays of their own."""

    def __init__(self, training=False):
        super().__init__(training, keeps=True)
        self._found = {}

    def _new_child(self):
        child = TapedRun()
        child._found = self._found
        return child

    def gradient_array(self, layer, variable):
        array = np.empty(variable.shape, np.float32)
        self._found.setdefault(id(variable), []).append(array)
        return array

    def gradients_of(self, weights):
        """What was found for each since the last time, None where nothing was."""
        found = [self._found.get(id(weight)) for weight in weights]
        self._found.clear()
        return [sum(parts[1:], parts[0]) if parts else None for parts in found]


class Rooms:
    """Arrays of a plan, whose memory is used again: `new` gives one, which counts as held by
    whoever asked, and goes to others once each `hold` of it, or of a view of it, has been
    answered by a `drop`."""

    def __init__(self):
        self._held = {}  # id of memory -> (memory, how often it is held)
        self._free = []

    def new(self, shape):
        """float32, not initialized."""
        size = math.prod(shape)
        fits = [memory for memory in self._free if size <= memory.size <= 4 * size + 4096]
        if fits:
            memory = min(fits, key=lambda memory: memory.size)
            self._free = [other for other in self._free if other is not memory]
        else:
            memory = np.empty(size, np.float32)
        self._held[id(memory)] = memory, 0
        return memory[:size].reshape(shape)

    def hold(self, array):
        self._count(array, 1)

    def drop(self, array):
        self._count(array, -1)

    def _count(self, array, more):
        while id(array) not in self._held:
            if not isinstance(array, np.ndarray):
                return  # memory that is not from here
            array = array.base
        memory, count = self._held.pop(id(array))
        if count + more:
            self._held[id(array)] = memory, count + more
        else:
            self._free.append(memory)
