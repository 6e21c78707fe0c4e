# The layers around the LSTM.

cdef extern from "engine.h" nogil:
    int64_t fr_dense_packed_size(int64_t k, int64_t n)
    void fr_dense_pack(float *packed, const float *weights, const float *bias, int64_t k, int64_t n,
                       int transposed)
    int fr_dense_forward(float *y, const float *x, const float *packed, int activation,
                         int64_t rows, int64_t k, int64_t n)
    int64_t fr_dense_slices(int64_t rows, int64_t k, int64_t n)
    int64_t fr_dense_scratch(int64_t rows, int64_t k, int64_t n, int64_t slices)
    int fr_dense_backward(float *dx, float *dweights, float *dbias, float *dy, const float *x,
                          const float *y, const float *packed_back, int activation, int64_t rows,
                          int64_t k, int64_t n, int64_t slices, float *scratch)
    int fr_dropout(float *y, const float *x, int64_t n, float rate, uint64_t seed)
    int64_t fr_bad_index(const int32_t *index, int64_t n, int64_t size)
    int64_t fr_distinct(int32_t *values, int32_t *places, const int32_t *index, int64_t n,
                        int64_t size, int32_t *scratch)
    int fr_one_hot(int32_t *index, const float *x, int64_t rows, int64_t features)
    int fr_embedding_forward(float *out, const float *table, const int32_t *index, int64_t n,
                             int64_t size, int64_t width)
    int fr_embedding_backward(float *dtable, const float *dy, const int32_t *index, int64_t n,
                              int64_t size, int64_t width)
    int64_t fr_batch_norm_scratch(int64_t n)
    int fr_batch_norm_moments(float *mean, float *variance, const float *x, const uint8_t *mask,
                              int64_t rows, int64_t n, double *scratch)
    int fr_batch_norm_forward(float *y, const float *x, const float *scale, const float *offset,
                              int64_t rows, int64_t n)
    int fr_batch_norm_backward(float *dx, float *dgamma, float *dbeta, const float *dy,
                               const float *x, const float *mean, const float *inverse,
                               const float *gamma, const uint8_t *mask, int64_t rows, int64_t n,
                               double *scratch)


cdef int64_t rows_of(str name, object array, int64_t n) except -1:
    """Number of rows of a contiguous float32 array (..., n)."""
    if (cnp.PyArray_Check(array) and cnp.PyArray_TYPE(array) == cnp.NPY_FLOAT32
            and cnp.PyArray_IS_C_CONTIGUOUS(array) and cnp.PyArray_NDIM(array) >= 1
            and cnp.PyArray_DIM(array, cnp.PyArray_NDIM(array) - 1) == n):
        return cnp.PyArray_SIZE(array) // n
    describe_mismatch(name, f"contiguous float32 of shape (..., {n})", array)
    return 0


cdef float *values(str name, object array, int64_t size) except? NULL:
    """Data of a contiguous float32 array with `size` elements, of any shape; None gives NULL."""
    if array is None:
        return NULL
    if (cnp.PyArray_Check(array) and cnp.PyArray_TYPE(array) == cnp.NPY_FLOAT32
            and cnp.PyArray_IS_C_CONTIGUOUS(array) and cnp.PyArray_SIZE(array) == size):
        return <float *>cnp.PyArray_DATA(array)
    describe_mismatch(name, f"contiguous float32 with {size} elements", array)
    return NULL


cdef class PackedDense:
    """Weights of a dense layer in the kernels' own order; version as in PackedRNN."""

    cdef readonly int64_t inputs, units
    cdef Buffer weights, back, scratch
    cdef const char *isa_name
    cdef bint has_back
    cdef public object version

    def __init__(self, inputs, units):
        if inputs < 1 or units < 1:
            raise ValueError(f"expected inputs and units >= 1, received {inputs} and {units}")
        self.inputs, self.units = inputs, units
        self.weights, self.back, self.scratch = Buffer(), Buffer(), Buffer()

    def pack(self, kernel, bias=None, bint input_gradient=False):
        """kernel (inputs, units), bias (units) or None."""
        cdef int64_t k = self.inputs, n = self.units
        cdef const float *w = floats("kernel", kernel, k, n)
        cdef const float *b = floats("bias", bias, n)
        if w is NULL:
            raise ValueError("kernel: expected an array, received None")
        cdef float *p = self.weights.get(fr_dense_packed_size(k, n))
        cdef float *q = NULL
        if input_gradient:
            q = self.back.get(fr_dense_packed_size(n, k))
        cdef PyThreadState *gil = let_go(4.0 * k * n)
        fr_dense_pack(p, w, b, k, n, 0)
        if q is not NULL:
            fr_dense_pack(q, w, NULL, n, k, 1)
        take_back(gil)
        self.isa_name = fr_isa()
        self.has_back = input_gradient

    def forward(self, y, x, int activation):
        """y (..., units) = activation(x (..., inputs) W + bias)."""
        cdef int64_t rows = rows_of("x", x, self.inputs)
        cdef float *out = values("y", y, rows * self.units)
        cdef const float *data = <const float *>cnp.PyArray_DATA(x)
        cdef int status
        if self.weights.data is NULL or self.isa_name != fr_isa():
            raise ValueError("weights must be packed for the instruction set in use")
        if rows_of("y", y, self.units) != rows:
            raise ValueError(f"y: expected {rows} rows, received shape {y.shape}")
        cdef PyThreadState *gil = let_go(2.0 * rows * self.inputs * self.units)
        status = fr_dense_forward(out, data, self.weights.data, activation, rows, self.inputs,
                                  self.units)
        take_back(gil)
        raise_status(status)

    def backward(self, dx, dkernel, dbias, dy, x, y, int activation):
        """dy becomes the gradient before the activation; dkernel, dbias and dx (or None) are
        overwritten."""
        cdef int64_t k = self.inputs, n = self.units, rows = rows_of("x", x, k)
        cdef const float *input = <const float *>cnp.PyArray_DATA(x)
        cdef float *gradient = values("dy", dy, rows * n)
        cdef float *output = values("y", y, rows * n)
        cdef float *dinput = values("dx", dx, rows * k)
        cdef float *dweights = floats("dkernel", dkernel, k, n)
        cdef float *db = floats("dbias", dbias, n)
        cdef int status
        if gradient is NULL or dweights is NULL or output is NULL:
            raise ValueError("dy, y and dkernel: expected arrays, received None")
        if dinput is not NULL and (not self.has_back or self.isa_name != fr_isa()):
            raise ValueError("dx: weights must be packed with input_gradient=True")
        cdef int64_t slices = fr_dense_slices(rows, k, n)
        cdef float *scratch = self.scratch.get(fr_dense_scratch(rows, k, n, slices))
        cdef PyThreadState *gil = let_go(4.0 * rows * k * n)
        status = fr_dense_backward(dinput, dweights, db, gradient, input, output,
                                   self.back.data, activation, rows, k, n, slices, scratch)
        take_back(gil)
        raise_status(status)


def dropout(y, x, double rate, uint64_t seed):
    """y = x / (1 - rate) where kept, else 0; what is kept depends on seed and place alone."""
    cdef int64_t n = cnp.PyArray_SIZE(x) if cnp.PyArray_Check(x) else 0
    cdef float *out = values("y", y, n)
    cdef const float *data = values("x", x, n)
    cdef int status
    if out is NULL or data is NULL:
        raise ValueError("x and y: expected arrays, received None")
    cdef PyThreadState *gil = let_go(8.0 * n)
    status = fr_dropout(out, data, n, rate, seed)
    take_back(gil)
    raise_status(status)


cdef const int32_t *indices(object index, int64_t size) except? NULL:
    if (not cnp.PyArray_Check(index) or cnp.PyArray_TYPE(index) != cnp.NPY_INT32
            or not cnp.PyArray_IS_C_CONTIGUOUS(index)):
        describe_mismatch("inputs", "contiguous int32", index)
    cdef const int32_t *data = <const int32_t *>cnp.PyArray_DATA(index)
    cdef int64_t place = fr_bad_index(data, cnp.PyArray_SIZE(index), size)
    if place >= 0:
        raise IndexError(f"inputs: expected indices from 0 to {size - 1} (input_dim - 1), "
                         f"received {data[place]}")
    return data


def check_indices(index, int64_t size):
    """Raise IndexError unless all of index, int32, is from 0 to size - 1."""
    indices(index, size)


def one_hot(index, x):
    """Has each row of x (..., features) one 1 and else zeros, or zeros alone? If so, index (...),
    int32, becomes the places of the ones, and `features` where there is none."""
    if (not cnp.PyArray_Check(index) or cnp.PyArray_TYPE(index) != cnp.NPY_INT32
            or not cnp.PyArray_IS_C_CONTIGUOUS(index)):
        describe_mismatch("index", "contiguous int32", index)
    if not cnp.PyArray_Check(x) or cnp.PyArray_NDIM(x) < 1:
        describe_mismatch("x", "a float32 array (..., features)", x)
    cdef int64_t rows = cnp.PyArray_SIZE(index), features = cnp.PyArray_DIM(x, cnp.PyArray_NDIM(x) - 1)
    cdef const float *data = values("x", x, rows * features)
    cdef bint found
    cdef PyThreadState *gil = let_go(1.0 * rows * features)
    found = fr_one_hot(<int32_t *>cnp.PyArray_DATA(index), data, rows, features)
    take_back(gil)
    return found


def distinct(index, int64_t size):
    """(values, places): the different values in index, all below size, in the order in which they
    come, and for each index the place of its value among them, all int32."""
    cdef const int32_t *data = indices(index, size)
    cdef int64_t n = cnp.PyArray_SIZE(index), count
    scratch = np.empty(size, np.int32)
    values, places = np.empty(min(n, size), np.int32), np.empty_like(index)
    cdef int32_t *scratch_data = <int32_t *>cnp.PyArray_DATA(scratch)
    cdef int32_t *values_data = <int32_t *>cnp.PyArray_DATA(values)
    cdef int32_t *places_data = <int32_t *>cnp.PyArray_DATA(places)
    cdef PyThreadState *gil = let_go(4.0 * (n + size))
    count = fr_distinct(values_data, places_data, data, n, size, scratch_data)
    take_back(gil)
    return values[:count], places


def embedding_forward(y, table, index):
    """y (..., width) = rows of table (size, width) at index (...), int32."""
    if not cnp.PyArray_Check(table) or cnp.PyArray_NDIM(table) != 2:
        describe_mismatch("table", "a float32 array (size, width)", table)
    cdef int64_t size = cnp.PyArray_DIM(table, 0), width = cnp.PyArray_DIM(table, 1)
    cdef const float *rows = floats("table", table, size, width)
    cdef const int32_t *places = indices(index, size)
    cdef int64_t n = cnp.PyArray_SIZE(index)
    cdef float *out = values("y", y, n * width)
    cdef int status
    if out is NULL:
        raise ValueError("y: expected an array, received None")
    cdef PyThreadState *gil = let_go(1.0 * n * width)
    status = fr_embedding_forward(out, rows, places, n, size, width)
    take_back(gil)
    raise_status(status)


def embedding_backward(dtable, dy, index):
    """dtable (size, width), overwritten: the sum of dy's rows by index."""
    if not cnp.PyArray_Check(dtable) or cnp.PyArray_NDIM(dtable) != 2:
        describe_mismatch("dtable", "a float32 array (size, width)", dtable)
    cdef int64_t size = cnp.PyArray_DIM(dtable, 0), width = cnp.PyArray_DIM(dtable, 1)
    cdef float *rows = floats("dtable", dtable, size, width)
    cdef const int32_t *places = indices(index, size)
    cdef int64_t n = cnp.PyArray_SIZE(index)
    cdef const float *gradient = values("dy", dy, n * width)
    cdef int status
    if gradient is NULL:
        raise ValueError("dy: expected an array, received None")
    cdef PyThreadState *gil = let_go(1.0 * (n + size) * width)
    status = fr_embedding_backward(rows, gradient, places, n, size, width)
    take_back(gil)
    raise_status(status)


cdef const uint8_t *row_mask(object mask, int64_t rows) except? NULL:
    if mask is None:
        return NULL
    if (not cnp.PyArray_Check(mask) or cnp.PyArray_TYPE(mask) != cnp.NPY_BOOL
            or not cnp.PyArray_IS_C_CONTIGUOUS(mask) or cnp.PyArray_SIZE(mask) != rows):
        describe_mismatch("mask", f"contiguous bool with {rows} elements", mask)
    return <const uint8_t *>cnp.PyArray_DATA(mask)


def batch_norm_moments(mean, variance, x, mask=None):
    """Mean and (biased) variance (n) of x (..., n) over the rows whose mask is set."""
    if not cnp.PyArray_Check(mean) or cnp.PyArray_NDIM(mean) != 1:
        describe_mismatch("mean", "a float32 vector", mean)
    cdef int64_t n = cnp.PyArray_DIM(mean, 0), rows = rows_of("x", x, n)
    cdef float *m = floats("mean", mean, n)
    cdef float *v = floats("variance", variance, n)
    cdef const float *data = <const float *>cnp.PyArray_DATA(x)
    cdef const uint8_t *used = row_mask(mask, rows)
    cdef Buffer scratch = Buffer()
    cdef double *sums = <double *>scratch.get(2 * fr_batch_norm_scratch(n))
    cdef int status
    if v is NULL:
        raise ValueError("variance: expected an array, received None")
    cdef PyThreadState *gil = let_go(6.0 * rows * n)
    status = fr_batch_norm_moments(m, v, data, used, rows, n, sums)
    take_back(gil)
    raise_status(status)


def batch_norm_forward(y, x, scale, offset):
    """y = x * scale + offset, x and y (..., n), scale and offset (n)."""
    if not cnp.PyArray_Check(scale) or cnp.PyArray_NDIM(scale) != 1:
        describe_mismatch("scale", "a float32 vector", scale)
    cdef int64_t n = cnp.PyArray_DIM(scale, 0), rows = rows_of("x", x, n)
    cdef float *out = values("y", y, rows * n)
    cdef const float *a = floats("scale", scale, n)
    cdef const float *b = floats("offset", offset, n)
    cdef const float *data = <const float *>cnp.PyArray_DATA(x)
    cdef int status
    if out is NULL or b is NULL:
        raise ValueError("y and offset: expected arrays, received None")
    cdef PyThreadState *gil = let_go(2.0 * rows * n)
    status = fr_batch_norm_forward(out, data, a, b, rows, n)
    take_back(gil)
    raise_status(status)


def batch_norm_backward(dx, dgamma, dbeta, dy, x, mean, inverse, gamma=None, mask=None):
    """Gradients of training-mode batch normalisation; dx, dgamma and dbeta (or None) are
    overwritten. inverse: 1 / sqrt(variance + epsilon)."""
    if not cnp.PyArray_Check(mean) or cnp.PyArray_NDIM(mean) != 1:
        describe_mismatch("mean", "a float32 vector", mean)
    cdef int64_t n = cnp.PyArray_DIM(mean, 0), rows = rows_of("x", x, n)
    cdef const float *m = floats("mean", mean, n)
    cdef const float *inv = floats("inverse", inverse, n)
    cdef const float *g = floats("gamma", gamma, n)
    cdef float *dg = floats("dgamma", dgamma, n)
    cdef float *db = floats("dbeta", dbeta, n)
    cdef float *dinput = values("dx", dx, rows * n)
    cdef const float *gradient = values("dy", dy, rows * n)
    cdef const float *data = <const float *>cnp.PyArray_DATA(x)
    cdef const uint8_t *used = row_mask(mask, rows)
    cdef Buffer scratch = Buffer()
    cdef double *sums = <double *>scratch.get(2 * fr_batch_norm_scratch(n))
    cdef int status
    if inv is NULL or gradient is NULL:
        raise ValueError("inverse and dy: expected arrays, received None")
    cdef PyThreadState *gil = let_go(8.0 * rows * n)
    status = fr_batch_norm_backward(dinput, dg, db, gradient, data, m, inv, g, used, rows, n,
                                    sums)
    take_back(gil)
    raise_status(status)
