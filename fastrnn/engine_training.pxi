# Training on flat arrays: optimizer steps, losses with their gradients, counts of matches.

cdef extern from "engine.h" nogil:
    enum: FR_SGD, FR_RMSPROP, FR_ADAM, FR_ADAMAX, FR_ADAGRAD, FR_ADADELTA
    enum: FR_SIGMOID_CROSSENTROPY, FR_SOFTMAX_CROSSENTROPY, FR_SQUARED_ERROR, FR_ABSOLUTE_ERROR

    ctypedef struct fr_update:
        int32_t rule, nesterov
        float decay, rate, momentum, epsilon, new_gradient, new_square
        float mean_factor, gradient_factor, square_factor
        float *values
        const float *gradients
        float *slots[3]

    ctypedef struct fr_loss:
        int32_t kind
        int64_t rows, columns
        const float *z
        const float *targets
        const int64_t *labels
        const float *weights
        float target_scale, target_offset, scale
        float *y
        float *dz

    int fr_update_values(const fr_update *update, int64_t begin, int64_t end)
    double fr_sum_of_squares(const float *x, int64_t n)
    void fr_scale(float *x, float factor, int64_t n)
    void fr_clip(float *x, float bound, int64_t n)
    int fr_loss_value(double *value, const fr_loss *loss)
    int fr_activate(float *y, const float *x, int64_t n, int activation)
    int fr_activate_back(float *dx, const float *dy, const float *y, int64_t n, int activation)
    int fr_softmax(float *y, int64_t rows, int64_t columns)
    int64_t fr_binary_matches(float *matches, const float *y_true, const float *y_pred,
                              float threshold, int64_t n)
    int64_t fr_class_matches(float *matches, const float *y_true, const int64_t *labels,
                             const float *y_pred, int64_t rows, int64_t columns)

RULES = {
    "sgd": FR_SGD, "rmsprop": FR_RMSPROP, "adam": FR_ADAM, "adamax": FR_ADAMAX,
    "adagrad": FR_ADAGRAD, "adadelta": FR_ADADELTA,
}
SIGMOID_CROSSENTROPY = FR_SIGMOID_CROSSENTROPY
SOFTMAX_CROSSENTROPY = FR_SOFTMAX_CROSSENTROPY
SQUARED_ERROR = FR_SQUARED_ERROR
ABSOLUTE_ERROR = FR_ABSOLUTE_ERROR


cdef void *contiguous(str name, object array, int dtype, int64_t size) except? NULL:
    """Data of a C-contiguous array of the given dtype and number of elements (-1: any)."""
    if (cnp.PyArray_Check(array) and cnp.PyArray_TYPE(array) == dtype
            and cnp.PyArray_IS_C_CONTIGUOUS(array) and cnp.PyArray_ISALIGNED(array)
            and (size < 0 or cnp.PyArray_SIZE(array) == size)):
        return cnp.PyArray_DATA(array)
    kind = "int64" if dtype == cnp.NPY_INT64 else "float32"
    count = "" if size < 0 else f" with {size} elements"
    describe_mismatch(name, f"contiguous {kind}{count}", array)
    return NULL


cdef void *writable(str name, object array, int64_t size) except? NULL:
    if cnp.PyArray_Check(array) and not cnp.PyArray_ISWRITEABLE(array):
        raise ValueError(f"{name}: expected a writable array, received a read-only one")
    return contiguous(name, array, cnp.NPY_FLOAT32, size)


# --- optimizers -----------------------------------------------------------------------------------

cdef class Update:
    """An optimizer's rule bound to flat arrays of one size; `step` makes one update.

    slots: three arrays or None, in the order of fr_update in engine.h. Options that the rule does
    not use are ignored."""

    cdef fr_update update
    cdef int64_t size
    cdef readonly tuple arrays  # keeps what the struct points to alive

    def __init__(self, str rule, values, gradients, slots, bint nesterov=False, double momentum=0,
                 double epsilon=0, double new_gradient=0, double new_square=0):
        if rule not in RULES:
            raise ValueError(f"rule: expected one of {sorted(RULES)}, received {rule!r}")
        cdef fr_update *u = &self.update
        u.rule, u.nesterov = RULES[rule], nesterov
        u.momentum, u.epsilon = momentum, epsilon
        u.new_gradient, u.new_square = new_gradient, new_square
        u.values = <float *>writable("values", values, -1)
        self.size = cnp.PyArray_SIZE(values)
        u.gradients = <const float *>contiguous("gradients", gradients, cnp.NPY_FLOAT32, self.size)
        slots = tuple(slots)
        if len(slots) != 3:
            raise ValueError(f"slots: expected three arrays or None, received {len(slots)}")
        for i in range(3):
            u.slots[i] = NULL
            if slots[i] is not None:
                u.slots[i] = <float *>writable(f"slots[{i}]", slots[i], self.size)
        self.arrays = (values, gradients, *slots)

    def step(self, double rate, double decay=0, double mean_factor=1, double gradient_factor=0,
             double square_factor=1, int64_t begin=0, int64_t end=-1):
        """Update the values in [begin, end), by default all."""
        cdef fr_update *u = &self.update
        cdef int status
        if end < 0:
            end = self.size
        if begin < 0 or begin > end or end > self.size:
            raise ValueError(f"begin, end: expected a range within {self.size} values, "
                             f"received {begin}, {end}")
        u.rate, u.decay = rate, decay
        u.mean_factor, u.gradient_factor = mean_factor, gradient_factor
        u.square_factor = square_factor
        cdef PyThreadState *gil = let_go(20.0 * (end - begin))
        status = fr_update_values(u, begin, end)
        take_back(gil)
        raise_status(status)


def sum_of_squares(x):
    """Sum of the squares of a contiguous float32 array, in double."""
    cdef const float *data = <const float *>contiguous("x", x, cnp.NPY_FLOAT32, -1)
    cdef int64_t n = cnp.PyArray_SIZE(x)
    cdef double total
    cdef PyThreadState *gil = let_go(1.0 * n)
    total = fr_sum_of_squares(data, n)
    take_back(gil)
    return total


def scale(x, double factor):
    """x *= factor, for a contiguous float32 array."""
    cdef float *data = <float *>writable("x", x, -1)
    cdef int64_t n = cnp.PyArray_SIZE(x)
    cdef PyThreadState *gil = let_go(1.0 * n)
    fr_scale(data, factor, n)
    take_back(gil)


def activate(y, x, int activation):
    """y = act(x), of ACTIVATIONS, for contiguous float32 arrays; y may be x."""
    cdef float *to = <float *>writable("y", y, -1)
    cdef int64_t n = cnp.PyArray_SIZE(y)
    cdef const float *data = <const float *>contiguous("x", x, cnp.NPY_FLOAT32, n)
    cdef PyThreadState *gil = let_go(20.0 * n)
    cdef int status = fr_activate(to, data, n, activation)
    take_back(gil)
    raise_status(status)


def activate_back(dx, dy, y, int activation):
    """dx = dy * act'(x), where y = act(x), for contiguous float32 arrays; dx may be dy."""
    cdef float *to = <float *>writable("dx", dx, -1)
    cdef int64_t n = cnp.PyArray_SIZE(dx)
    cdef const float *given = <const float *>contiguous("dy", dy, cnp.NPY_FLOAT32, n)
    cdef const float *outputs = <const float *>contiguous("y", y, cnp.NPY_FLOAT32, n)
    cdef PyThreadState *gil = let_go(20.0 * n)
    cdef int status = fr_activate_back(to, given, outputs, n, activation)
    take_back(gil)
    raise_status(status)


def clip(x, double bound):
    """Cut a contiguous float32 array to [-bound, bound] in place."""
    cdef float *data = <float *>writable("x", x, -1)
    cdef int64_t n = cnp.PyArray_SIZE(x)
    cdef PyThreadState *gil = let_go(1.0 * n)
    fr_clip(data, bound, n)
    take_back(gil)


# --- losses ---------------------------------------------------------------------------------------

def fused_loss(int kind, z, y_true, weights=None, double scale=1, double target_scale=1,
               double target_offset=0, bint activation=True, bint gradient=True, y=None):
    """-> sum of weight * loss, activation of z, gradient of scale * weight * loss by z.

    y: an array for the activation; with it, the gradient takes the place of z.

    z is contiguous float32, its last axis the columns; y_true is float32 of as many elements, or
    for softmax int64 labels, one a row; weights float32, one a row. Not asked for, an array is
    None. Raises ValueError for a label that is no column."""
    cdef fr_loss l
    cdef int status
    cdef double value = 0
    cdef int64_t size, r
    l.kind = kind
    l.y, l.dz = NULL, NULL
    dz = None
    l.z = <const float *>contiguous("y_pred", z, cnp.NPY_FLOAT32, -1)
    size = cnp.PyArray_SIZE(z)
    if y is not None:
        l.y = <float *>writable("y", y, size)
        if gradient:
            l.dz, dz = <float *>writable("y_pred", z, size), z
    if cnp.PyArray_NDIM(z) < 1:
        describe_mismatch("y_pred", "at least one axis", z)
    l.columns = cnp.PyArray_DIM(z, cnp.PyArray_NDIM(z) - 1)
    l.rows = size // l.columns if l.columns else 0
    l.targets, l.labels, l.weights = NULL, NULL, NULL
    if kind == FR_SOFTMAX_CROSSENTROPY and cnp.PyArray_Check(y_true) and (
            cnp.PyArray_TYPE(y_true) == cnp.NPY_INT64):
        l.labels = <const int64_t *>contiguous("y_true", y_true, cnp.NPY_INT64, l.rows)
    else:
        l.targets = <const float *>contiguous("y_true", y_true, cnp.NPY_FLOAT32, size)
    if weights is not None:
        l.weights = <const float *>contiguous("sample_weight", weights, cnp.NPY_FLOAT32, l.rows)
    l.scale, l.target_scale, l.target_offset = scale, target_scale, target_offset
    if y is None and (activation or kind == FR_SOFTMAX_CROSSENTROPY):
        y = cnp.PyArray_EMPTY(cnp.PyArray_NDIM(z), cnp.PyArray_DIMS(z), cnp.NPY_FLOAT32, 0)
        l.y = <float *>cnp.PyArray_DATA(y)
    if gradient and dz is None:
        dz = cnp.PyArray_EMPTY(cnp.PyArray_NDIM(z), cnp.PyArray_DIMS(z), cnp.NPY_FLOAT32, 0)
        l.dz = <float *>cnp.PyArray_DATA(dz)
    cdef PyThreadState *gil = let_go(40.0 * l.rows * l.columns)
    status = fr_loss_value(&value, &l)
    take_back(gil)
    if status == FR_BAD_INDEX:
        for r in range(l.rows):
            if l.labels[r] < 0 or l.labels[r] >= l.columns:
                raise ValueError(f"y_true: expected labels in [0, {l.columns}), the classes of "
                                 f"y_pred, received {l.labels[r]}")
    raise_status(status)
    return value, y, dz


def softmax(y):
    """Softmax over the last axis of a float32 array, in place."""
    cdef float *data = <float *>writable("y", y, -1)
    cdef int64_t size = cnp.PyArray_SIZE(y), columns = 0
    if cnp.PyArray_NDIM(y) > 0:
        columns = cnp.PyArray_DIM(y, cnp.PyArray_NDIM(y) - 1)
    cdef int status
    if columns < 1:
        describe_mismatch("y", "at least one column", y)
    cdef PyThreadState *gil = let_go(40.0 * size)
    status = fr_softmax(data, size // columns, columns)
    take_back(gil)
    raise_status(status)


# --- accuracy -------------------------------------------------------------------------------------

def binary_matches(y_true, y_pred, double threshold=0.5, matches=None):
    """Number of elements where y_true == (y_pred > threshold), all float32 of one size.

    matches: an array that becomes 1.0 there and 0.0 elsewhere."""
    cdef const float *p = <const float *>contiguous("y_pred", y_pred, cnp.NPY_FLOAT32, -1)
    cdef int64_t n = cnp.PyArray_SIZE(y_pred), count
    cdef const float *t = <const float *>contiguous("y_true", y_true, cnp.NPY_FLOAT32, n)
    cdef float *m = NULL
    if matches is not None:
        m = <float *>writable("matches", matches, n)
    cdef PyThreadState *gil = let_go(4.0 * n)
    count = fr_binary_matches(m, t, p, threshold, n)
    take_back(gil)
    return count


def class_matches(y_true, y_pred, matches=None):
    """Number of rows of y_pred (..., classes) whose first maximum is the class of y_true.

    y_true: float32 of as many elements, of which the first maxima count, or int64 labels, one a
    row. matches: an array, one a row, that becomes 1.0 there and 0.0 elsewhere."""
    cdef const float *p = <const float *>contiguous("y_pred", y_pred, cnp.NPY_FLOAT32, -1)
    cdef int64_t size = cnp.PyArray_SIZE(y_pred), columns, rows, count
    cdef const float *t = NULL
    cdef const int64_t *labels = NULL
    cdef float *m = NULL
    if cnp.PyArray_NDIM(y_pred) < 1:
        describe_mismatch("y_pred", "at least one axis", y_pred)
    columns = cnp.PyArray_DIM(y_pred, cnp.PyArray_NDIM(y_pred) - 1)
    rows = size // columns if columns else 0
    if cnp.PyArray_Check(y_true) and cnp.PyArray_TYPE(y_true) == cnp.NPY_INT64:
        labels = <const int64_t *>contiguous("y_true", y_true, cnp.NPY_INT64, rows)
    else:
        t = <const float *>contiguous("y_true", y_true, cnp.NPY_FLOAT32, size)
    if matches is not None:
        m = <float *>writable("matches", matches, rows)
    cdef PyThreadState *gil = let_go(4.0 * size)
    count = fr_class_matches(m, t, labels, p, rows, columns)
    take_back(gil)
    return count
