# Instruction set, threads, memory, and the recurrent layers.

cdef extern from "engine.h" nogil:
    enum: FR_OK, FR_BAD_SIZE, FR_BAD_ARGUMENT, FR_BAD_INDEX, FR_INTERRUPTED
    const char *fr_isa()
    const char *fr_isa_name(int index)
    int fr_set_isa(const char *name)
    void fr_set_threads(int threads)
    void fr_set_threads_within_cpus(int threads)
    int fr_threads()
    int fr_threads_for(double flops)
    void fr_use_large_pages(void *memory, int64_t bytes)
    void fr_set_interrupt(int (*asked)() noexcept)

    enum: FR_GRU

    ctypedef struct fr_rnn:
        int32_t cell
        int64_t batch, timesteps, features, units
        int32_t activation, recurrent_activation, zero_output_for_mask
        const float *packed
        const float *x
        int64_t x_row, x_time
        const int32_t *index
        int64_t index_row, index_time, choices
        float *products
        const uint8_t *mask
        int64_t mask_row, mask_time
        const float *h0
        const float *c0
        float *y
        int64_t y_row, y_time
        float *last
        int64_t last_row
        float *h_last
        float *c_last
        float *saved
        const float *packed_back
        const float *dy
        int64_t dy_row, dy_time
        const float *dh_last
        const float *dc_last
        float *dx
        int64_t dx_row, dx_time
        int32_t dx_add
        float *dkernel
        float *drecurrent
        float *dbias
        float *dh0
        float *dc0

    int64_t fr_rnn_packed_size(int cell, int64_t features, int64_t units)
    int64_t fr_rnn_packed_back_size(int cell, int64_t features, int64_t units)
    void fr_rnn_pack(int cell, float *packed, const float *kernel, const float *recurrent_kernel,
                     const float *bias, int64_t features, int64_t units)
    void fr_rnn_pack_back(int cell, float *packed, const float *kernel,
                          const float *recurrent_kernel, int64_t features, int64_t units)
    ctypedef struct fr_rnn_split:
        int64_t slices
        int parts

    fr_rnn_split fr_rnn_best_split(const fr_rnn *rnn, int count)
    int64_t fr_rnn_products_size(int cell, int64_t choices, int64_t features, int64_t units)
    int fr_rnn_multiply(const fr_rnn *rnn)
    int64_t fr_rnn_saved_size(const fr_rnn *rnn, fr_rnn_split split)
    int64_t fr_rnn_forward_scratch(const fr_rnn *rnn, fr_rnn_split split)
    int64_t fr_rnn_backward_scratch(const fr_rnn *rnn, fr_rnn_split split)
    int fr_rnn_forward(const fr_rnn *rnn, int count, fr_rnn_split split, float **scratch)
    int fr_rnn_needs_back(const fr_rnn *rnn)
    int fr_rnn_backward(const fr_rnn *rnn, int count, fr_rnn_split split, float **scratch)


# --- instruction set and threads ------------------------------------------------------------------

def isa():
    """Name of the instruction set in use: "avx512", "avx2" or "base"."""
    return fr_isa().decode()


def available_isas():
    """The instruction sets that this CPU can run, best first."""
    names, index = [], 0
    while fr_isa_name(index) is not NULL:
        names.append(fr_isa_name(index).decode())
        index += 1
    return names


def set_isa(str name):
    """Use another instruction set from now on (environment: FASTRNN_ISA)."""
    if fr_set_isa(name.encode()) != FR_OK:
        raise ValueError(f"isa: expected one of {available_isas()} on this CPU, received {name!r}")


def set_num_threads(threads):
    """Number of threads that the kernels may use, at least 1 (environment: FASTRNN_NUM_THREADS)."""
    if isinstance(threads, bool) or not hasattr(threads, "__index__") or not 1 <= threads <= 1024:
        raise ValueError(f"threads: expected a whole number from 1 to 1024, received {threads!r}")
    fr_set_threads(threads)


def set_num_threads_within_cpus(int threads):
    """At most so many threads, and no more than the CPUs that the calling thread may use then."""
    fr_set_threads_within_cpus(threads)


def get_num_threads():
    """Number of threads that the kernels may use."""
    return fr_threads()


cdef extern from "Python.h":
    int PyErr_CheckSignals()  # declared without "except": the exception is raised by raise_status

cdef extern from *:
    "static _Thread_local int asking_for_signals;"
    int asking_for_signals

cdef int signals_arrived() noexcept with gil:
    global asking_for_signals
    asking_for_signals = True
    cdef int raised = PyErr_CheckSignals()
    asking_for_signals = False
    return raised

fr_set_interrupt(signals_arrived)


def in_kernel():
    """For a signal's handler: does it run in the midst of a kernel, which an exception ends?"""
    return bool(asking_for_signals)


cdef int raise_status(int status) except -1:
    if status == FR_INTERRUPTED:
        return -1  # with what the signal's handler raised, KeyboardInterrupt as a rule
    if status == FR_BAD_INDEX:
        raise IndexError("an index is out of range")
    if status != FR_OK:
        raise ValueError(f"the engine refused its arguments (status {status})")
    return 0


# --- the GIL ----------------------------------------------------------------------------------------

cdef extern from "Python.h":
    ctypedef struct PyThreadState:
        pass
    PyThreadState *PyEval_SaveThread()
    void PyEval_RestoreThread(PyThreadState *)

cdef PyThreadState *let_go(double flops):
    """Release the GIL for kernels of so many operations; to be given to take_back. Below some 0.2 ms it is
    kept: a thread that lets go of it waits up to 5 ms (sys.getswitchinterval) behind one that runs
    Python code, after each kernel."""
    return PyEval_SaveThread() if flops > 2e6 else NULL

cdef void take_back(PyThreadState *state):
    if state is not NULL:
        PyEval_RestoreThread(state)


# --- memory ---------------------------------------------------------------------------------------

cdef class Buffer:
    """Aligned float memory that is reused from call to call and grows when it must.

    It shrinks when 64 calls in a row needed less than a quarter of it."""

    cdef void *memory
    cdef float *data
    cdef int64_t size
    cdef int oversized

    def __dealloc__(self):
        free(self.memory)

    cdef float *get(self, int64_t size) except? NULL:
        if size * 4 >= self.size:
            self.oversized = 0
        else:
            self.oversized += 1
        if size > self.size or self.oversized > 64:
            free(self.memory)
            self.memory, self.data, self.size, self.oversized = NULL, NULL, 0, 0
            if size > (1 << 58):
                raise MemoryError(f"cannot allocate {size} floats")
            self.memory = malloc(size * 4 + 64)
            if self.memory is NULL:
                raise MemoryError(f"cannot allocate {size} floats")
            fr_use_large_pages(self.memory, size * 4)
            self.data = <float *>((<uintptr_t>self.memory + 63) & ~<uintptr_t>63)
            self.size = size
        return self.data


# --- checks ---------------------------------------------------------------------------------------

cdef int describe_mismatch(str name, expected, object array) except -1:
    if isinstance(array, cnp.ndarray):
        received = f"a {array.dtype} array of shape {array.shape}, strides {array.strides}"
    else:
        received = type(array).__name__
    raise ValueError(f"{name}: expected {expected}, received {received}")


cdef float *floats(str name, object array, int64_t n0=-1, int64_t n1=-1, int64_t n2=-1) except? NULL:
    """Data of a C-contiguous float32 array of the given shape (-1 ends it); None gives NULL."""
    cdef int ndim = (n0 >= 0) + (n1 >= 0) + (n2 >= 0)
    cdef cnp.npy_intp *shape
    if array is None:
        return NULL
    if (cnp.PyArray_Check(array) and cnp.PyArray_TYPE(array) == cnp.NPY_FLOAT32
            and cnp.PyArray_IS_C_CONTIGUOUS(array) and cnp.PyArray_NDIM(array) == ndim):
        shape = cnp.PyArray_DIMS(array)
        if ((ndim < 1 or shape[0] == n0) and (ndim < 2 or shape[1] == n1)
                and (ndim < 3 or shape[2] == n2)):
            return <float *>cnp.PyArray_DATA(array)
    describe_mismatch(name, f"contiguous float32 of shape {(n0, n1, n2)[:ndim]}", array)
    return NULL


cdef float *strided(str name, object array, int64_t n0, int64_t n1, int64_t n2,
                    int64_t *row, int64_t *time) except? NULL:
    """Data of a float32 (n0, n1, n2) array whose last axis is contiguous; None gives NULL."""
    cdef cnp.npy_intp *shape
    cdef cnp.npy_intp *strides
    if array is None:
        return NULL
    if (cnp.PyArray_Check(array) and cnp.PyArray_TYPE(array) == cnp.NPY_FLOAT32
            and cnp.PyArray_ISALIGNED(array) and cnp.PyArray_NDIM(array) == 3):
        shape, strides = cnp.PyArray_DIMS(array), cnp.PyArray_STRIDES(array)
        if (shape[0] == n0 and shape[1] == n1 and shape[2] == n2
                and (strides[2] == 4 or n2 == 1) and strides[0] % 4 == 0 and strides[1] % 4 == 0):
            row[0], time[0] = strides[0] // 4, strides[1] // 4
            return <float *>cnp.PyArray_DATA(array)
    describe_mismatch(name, f"float32 of shape {(n0, n1, n2)}, contiguous in the last axis", array)
    return NULL


# --- recurrent layers ------------------------------------------------------------------------------

ACTIVATIONS = {
    "linear": 0, "relu": 1, "sigmoid": 2, "tanh": 3, "hard_sigmoid": 4, "hard_sigmoid_keras2": 5,
    "softsign": 6, "elu": 7, "selu": 8, "exponential": 9,
}  # enum fr_activation
CELLS = {"lstm": 0, "gru": 1, "simple_rnn": 2, "gru_reset_before": 3}  # enum fr_cell
GATES = {"lstm": 4, "gru": 3, "simple_rnn": 1, "gru_reset_before": 3}


cdef class PackedRNN:
    """Weights of one direction in the kernels' own order. cell: one of CELLS.

    version: what the caller says the weights' state is; None until packed."""

    cdef readonly int64_t features, units, gates
    cdef readonly int cell
    cdef Buffer forward, back
    cdef const char *isa_name
    cdef readonly bint has_back, has_input_back
    cdef public object version

    def __init__(self, features, units, cell="lstm"):
        if features < 1 or units < 1:
            raise ValueError(f"expected features and units >= 1, received {features} and {units}")
        if cell not in CELLS:
            raise ValueError(f"cell: expected one of {list(CELLS)}, received {cell!r}")
        self.features, self.units = features, units
        self.cell, self.gates = CELLS[cell], GATES[cell]
        self.forward, self.back = Buffer(), Buffer()
        self.version = None

    def pack(self, kernel, recurrent_kernel, bias=None, bint training=False, bint input_gradient=False):
        """kernel (features, gates units), recurrent_kernel (units, gates units), bias (gates units),
        for "gru" (2, 3 units), or None."""
        cdef int64_t f = self.features, u = self.units, columns = self.gates * self.units
        cdef const float *w = floats("kernel", kernel, f, columns)
        cdef const float *r = floats("recurrent_kernel", recurrent_kernel, u, columns)
        cdef const float *b = self.bias("bias", bias)
        if w is NULL or r is NULL:
            raise ValueError("kernel and recurrent_kernel: expected arrays, received None")
        cdef float *p = self.forward.get(fr_rnn_packed_size(self.cell, f, u))
        cdef PyThreadState *gil = let_go(4.0 * (f + u) * columns)
        fr_rnn_pack(self.cell, p, w, r, b, f, u)
        take_back(gil)
        self.isa_name = fr_isa()
        self.has_back = self.has_input_back = False
        if training:
            self.pack_back(kernel if input_gradient else None, recurrent_kernel)

    def pack_back(self, kernel, recurrent_kernel):
        """What backward needs beside pack: of the same weights. kernel: None where it will not be
        asked for dx."""
        cdef int64_t f = self.features, u = self.units, columns = self.gates * self.units
        cdef const float *w = floats("kernel", kernel, f, columns)
        cdef const float *r = floats("recurrent_kernel", recurrent_kernel, u, columns)
        if r is NULL or self.isa_name != fr_isa():
            raise ValueError("pack_back: expected pack, and an array recurrent_kernel, before it")
        cdef float *q = self.back.get(fr_rnn_packed_back_size(self.cell, f, u))
        cdef PyThreadState *gil = let_go(4.0 * (f + u) * columns)
        fr_rnn_pack_back(self.cell, q, w, r, f, u)
        take_back(gil)
        self.has_back, self.has_input_back = True, w is not NULL

    cdef float *bias(self, str name, object array) except? NULL:
        if self.cell == FR_GRU:
            return floats(name, array, 2, 3 * self.units)
        return floats(name, array, self.gates * self.units)


cdef class Products:
    """bias + x W for each row of x (choices, features), which an RNNRun then picks by index.

    version, uses: the caller's own."""

    cdef Buffer memory
    cdef fr_rnn rnn  # what they were computed with
    cdef const char *isa_name  # NULL: not computed, or overwritten by a backward
    cdef public object version
    cdef public int64_t uses

    def __init__(self, version=None):
        self.memory = Buffer()
        self.version, self.uses = version, 0

    @property
    def computed(self):
        return self.isa_name is not NULL

    def compute(self, PackedRNN packed not None, x):
        if not cnp.PyArray_Check(x) or cnp.PyArray_NDIM(x) != 2:
            describe_mismatch("x", "a float32 array (choices, features)", x)
        if packed.forward.data is NULL or packed.isa_name != fr_isa():
            raise ValueError("weights must be packed for the instruction set in use")
        cdef fr_rnn *l = &self.rnn
        cdef int status
        l.cell, l.features, l.units = packed.cell, packed.features, packed.units
        l.choices, l.x_row = cnp.PyArray_DIM(x, 0), packed.features
        l.x = floats("x", x, l.choices, l.features)
        l.packed = packed.forward.data
        self.isa_name = NULL
        l.products = self.memory.get(
            fr_rnn_products_size(l.cell, l.choices, l.features, l.units))
        cdef PyThreadState *gil = let_go(2.0 * packed.gates * l.choices * l.units * l.features)
        status = fr_rnn_multiply(l)
        take_back(gil)
        raise_status(status)
        self.isa_name = fr_isa()

    cdef float *of(self, const fr_rnn *l) except NULL:
        if (self.isa_name is NULL or self.isa_name != fr_isa() or self.rnn.cell != l.cell
                or self.rnn.choices != l.choices or self.rnn.features != l.features
                or self.rnn.units != l.units):
            raise ValueError("products: expected those of the rows and weights of this direction")
        return self.rnn.products


cdef class RNNRun:
    """One or two directions over one batch: set each direction, then forward, then backward.

    Arrays are float32; x, y, dy, dx may be any (batch, timesteps, n) view with a contiguous last
    axis, so that a reversed view of time makes a direction run backwards."""

    cdef fr_rnn rnn[2]
    cdef list arrays, gradient_arrays  # keep what the structs point to alive
    cdef list packed, products, saved, scratch
    cdef int count
    cdef fr_rnn_split split
    cdef const char *saved_isa

    def __init__(self, int count=1):
        if count not in (1, 2):
            raise ValueError(f"count: expected 1 or 2 directions, received {count}")
        self.count = count
        self.arrays, self.gradient_arrays = [None] * count, [None] * count
        self.packed, self.products = [None] * count, [None] * count
        self.saved = [Buffer() for _ in range(count)]
        self.scratch = [Buffer() for _ in range(count)]

    def set_direction(self, int d, PackedRNN packed not None, int activation,
                      int recurrent_activation, x, mask=None, bint zero_output_for_mask=False,
                      h0=None, c0=None, y=None, last=None, h_last=None, c_last=None, index=None,
                      Products products=None):
        """x (batch, timesteps, features); mask (batch, timesteps) bool; h0, c0, last, h_last and
        c_last (batch, units); y (batch, timesteps, units). Only an LSTM uses c0 and c_last.

        index (batch, timesteps) int32: which rows of x, then (choices, features), the steps have;
        products: of these rows."""
        if d < 0 or d >= self.count:
            raise ValueError(f"d: expected a direction below {self.count}, received {d}")
        cdef object steps_of = x if index is None else index
        if index is not None and products is None:
            raise ValueError("products: expected those of x where there is an index, received None")
        if index is not None and (
                not cnp.PyArray_Check(index) or cnp.PyArray_NDIM(index) != 2
                or cnp.PyArray_TYPE(index) != cnp.NPY_INT32 or not cnp.PyArray_ISALIGNED(index)
                or cnp.PyArray_STRIDE(index, 0) % 4 or cnp.PyArray_STRIDE(index, 1) % 4):
            describe_mismatch("index", "an int32 array (batch, timesteps)", index)
        if not cnp.PyArray_Check(x) or cnp.PyArray_NDIM(x) != (3 if index is None else 2):
            describe_mismatch("x", "a float32 array (batch, timesteps, features), or (choices, "
                              "features) with an index", x)
        cdef fr_rnn *l = &self.rnn[d]
        cdef int64_t batch = cnp.PyArray_DIM(steps_of, 0), steps = cnp.PyArray_DIM(steps_of, 1)
        cdef int64_t units = packed.units
        if batch < 1 or steps < 1:
            raise ValueError(f"x: expected at least one sample and one time step, received shape {x.shape}")
        l.batch, l.timesteps, l.features, l.units = batch, steps, packed.features, units
        l.cell = packed.cell
        l.activation, l.recurrent_activation = activation, recurrent_activation
        l.zero_output_for_mask = zero_output_for_mask
        l.index = NULL
        if index is None:
            l.x = strided("x", x, batch, steps, packed.features, &l.x_row, &l.x_time)
        else:
            l.choices, l.x_row, l.x_time = cnp.PyArray_DIM(x, 0), packed.features, 0
            l.x = floats("x", x, l.choices, packed.features)
            l.index = <const int32_t *>cnp.PyArray_DATA(index)
            l.index_row = cnp.PyArray_STRIDE(index, 0) // 4
            l.index_time = cnp.PyArray_STRIDE(index, 1) // 4
        l.mask = NULL
        if mask is not None:
            if (not cnp.PyArray_Check(mask) or cnp.PyArray_TYPE(mask) != cnp.NPY_BOOL
                    or cnp.PyArray_NDIM(mask) != 2 or cnp.PyArray_DIM(mask, 0) != batch
                    or cnp.PyArray_DIM(mask, 1) != steps):
                describe_mismatch("mask", f"bool of shape {(batch, steps)}", mask)
            l.mask = <const uint8_t *>cnp.PyArray_DATA(mask)
            l.mask_row, l.mask_time = cnp.PyArray_STRIDE(mask, 0), cnp.PyArray_STRIDE(mask, 1)
        l.h0 = floats("h0", h0, batch, units)
        l.c0 = floats("c0", c0, batch, units)
        l.y = strided("y", y, batch, steps, units, &l.y_row, &l.y_time)
        l.last = NULL
        if last is not None:
            if (not cnp.PyArray_Check(last) or cnp.PyArray_TYPE(last) != cnp.NPY_FLOAT32
                    or not cnp.PyArray_ISALIGNED(last)
                    or cnp.PyArray_NDIM(last) != 2 or cnp.PyArray_DIM(last, 0) != batch
                    or cnp.PyArray_DIM(last, 1) != units
                    or (cnp.PyArray_STRIDE(last, 1) != 4 and units != 1)
                    or cnp.PyArray_STRIDE(last, 0) % 4):
                describe_mismatch("last", f"float32 of shape {(batch, units)}", last)
            l.last = <float *>cnp.PyArray_DATA(last)
            l.last_row = cnp.PyArray_STRIDE(last, 0) // 4
        l.h_last = floats("h_last", h_last, batch, units)
        l.c_last = floats("c_last", c_last, batch, units)
        self.packed[d], self.products[d] = packed, products
        self.arrays[d] = (x, mask, h0, c0, y, last, h_last, c_last, index)

    cdef int check_packed(self, int d) except -1:
        cdef PackedRNN packed = self.packed[d]
        if packed is None or packed.forward.data is NULL or packed.isa_name != fr_isa():
            raise ValueError("weights must be packed for the instruction set in use")
        if self.rnn[d].batch != self.rnn[0].batch:
            raise ValueError("the directions must have the same batch size")
        if self.rnn[d].index is not NULL:
            self.rnn[d].products = (<Products>self.products[d]).of(&self.rnn[d])
        return 0

    def forward(self, bint keep=False):
        """Runs the directions; with keep, stores what backward needs."""
        cdef float *scratch[2]
        cdef int d, status
        for d in range(self.count):
            self.check_packed(d)
        cdef fr_rnn_split split = fr_rnn_best_split(self.rnn, self.count)
        for d in range(self.count):
            self.rnn[d].packed = (<PackedRNN>self.packed[d]).forward.data
            self.rnn[d].saved = NULL
            if keep:
                self.rnn[d].saved = (<Buffer>self.saved[d]).get(
                    fr_rnn_saved_size(&self.rnn[d], split))
                scratch[d] = NULL
            else:
                scratch[d] = (<Buffer>self.scratch[d]).get(
                    fr_rnn_forward_scratch(&self.rnn[d], split))
        self.split = split
        self.saved_isa = fr_isa() if keep else NULL
        cdef PyThreadState *gil = let_go(self.flops())
        status = fr_rnn_forward(self.rnn, self.count, split, scratch)
        take_back(gil)
        raise_status(status)

    cdef double flops(self):
        cdef fr_rnn *l = &self.rnn[0]
        cdef double features = 0 if l.index is not NULL else l.features
        return (2.0 * (<PackedRNN>self.packed[0]).gates * self.count * l.batch * l.timesteps * l.units
                * (features + l.units))

    @property
    def slices(self):
        """Into how many slices the last forward cut the batch."""
        return self.split.slices

    def set_gradients(self, int d, dkernel, drecurrent, dbias=None, dy=None, dh_last=None,
                      dc_last=None, dx=None, bint dx_add=False, dh0=None, dc0=None):
        """dy and dx as y and x; the weights' gradients are overwritten. dx_add: add to dx, which
        the direction before has written."""
        if d < 0 or d >= self.count or self.arrays[d] is None:
            raise ValueError(f"d: expected a direction below {self.count} that is set, received {d}")
        cdef fr_rnn *l = &self.rnn[d]
        cdef PackedRNN packed = self.packed[d]
        cdef int64_t batch = l.batch, units = l.units, columns = packed.gates * units
        l.dkernel = floats("dkernel", dkernel, l.features, columns)
        l.drecurrent = floats("drecurrent", drecurrent, units, columns)
        l.dbias = packed.bias("dbias", dbias)
        l.dy = strided("dy", dy, batch, l.timesteps, units, &l.dy_row, &l.dy_time)
        l.dh_last = floats("dh_last", dh_last, batch, units)
        l.dc_last = floats("dc_last", dc_last, batch, units)
        if l.index is NULL:
            l.dx = strided("dx", dx, batch, l.timesteps, l.features, &l.dx_row, &l.dx_time)
        else:
            l.dx, l.dx_row, l.dx_time = floats("dx", dx, l.choices, l.features), l.features, 0
        l.dx_add = dx_add
        l.dh0 = floats("dh0", dh0, batch, units)
        l.dc0 = floats("dc0", dc0, batch, units)
        self.gradient_arrays[d] = (dkernel, drecurrent, dbias, dy, dh_last, dc_last, dx, dh0, dc0)

    def needs_back(self, int d):
        """Must the weights of a direction with its gradients set be packed for backward?"""
        return fr_rnn_needs_back(&self.rnn[d])

    def backward(self):
        """Backward through time after forward(keep=True); may be called once."""
        cdef float *scratch[2]
        cdef int d, status
        cdef PackedRNN packed
        if self.saved_isa is NULL or self.saved_isa != fr_isa():
            raise ValueError("backward needs a forward(keep=True) on the same instruction set before it")
        for d in range(self.count):
            self.check_packed(d)
            packed = self.packed[d]
            if self.rnn[d].dx is not NULL and not packed.has_input_back:
                raise ValueError("dx: weights must be packed with input_gradient=True")
            if self.needs_back(d) and not packed.has_back:
                raise ValueError("weights must be packed with training=True")
            self.rnn[d].packed_back = packed.back.data if packed.has_back else NULL
            scratch[d] = (<Buffer>self.scratch[d]).get(
                fr_rnn_backward_scratch(&self.rnn[d], self.split))
            if self.rnn[d].index is not NULL:
                (<Products>self.products[d]).isa_name = NULL
        self.saved_isa = NULL
        cdef PyThreadState *gil = let_go(2 * self.flops())
        status = fr_rnn_backward(self.rnn, self.count, self.split, scratch)
        take_back(gil)
        raise_status(status)
