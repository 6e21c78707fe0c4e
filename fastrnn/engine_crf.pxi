# Linear-chain conditional random fields.

cdef extern from "engine.h" nogil:
    ctypedef struct fr_crf:
        int64_t batch, timesteps, tags
        const float *scores
        const float *chain
        const float *first
        const float *last
        const uint8_t *mask
        const int64_t *labels
        const float *weights
        double *losses
        float *dscores
        float *dchain
        float *dfirst
        float *dlast

    int64_t fr_crf_scratch(const fr_crf *crf)
    int fr_crf_loss(const fr_crf *crf, float *scratch)
    int fr_crf_path(const fr_crf *crf, float *path, float *scratch)


cdef int crf_of(fr_crf *c, object z, int64_t batch, int64_t timesteps, object mask) except -1:
    """Rows of z: the scores of all steps, then chain (tags, tags), first and last."""
    if not cnp.PyArray_Check(z) or cnp.PyArray_NDIM(z) != 2 or batch < 1 or timesteps < 1:
        describe_mismatch("z", "float32 (batch * timesteps + tags + 2, tags)", z)
    cdef int64_t n = cnp.PyArray_DIM(z, 1), steps = batch * timesteps
    cdef const float *data = floats("z", z, steps + n + 2, n)
    c.batch, c.timesteps, c.tags = batch, timesteps, n
    c.scores, c.chain = data, data + steps * n
    c.first, c.last = c.chain + n * n, c.chain + n * n + n
    c.mask = row_mask(mask, steps)
    c.labels, c.weights, c.losses = NULL, NULL, NULL
    c.dscores, c.dchain, c.dfirst, c.dlast = NULL, NULL, NULL, NULL
    return 0


def crf_loss(z, int64_t batch, int64_t timesteps, labels=None, mask=None, weights=None, dz=None):
    """-> negative log-likelihoods (batch), float64; logs of the sums over all paths without labels.

    z: float32 (batch * timesteps + tags + 2, tags), the scores of all steps, then of each tag after
    each, of the first and of the last tag. labels: int64 (batch, timesteps), looked at where the
    bool mask is True. dz: becomes the gradient of the sum of the losses times float32 weights
    (batch), by z, so that without labels its first rows are the tags' probabilities. Raises
    ValueError for a label that is no tag."""
    cdef fr_crf c
    cdef int status
    cdef int64_t i
    crf_of(&c, z, batch, timesteps, mask)
    if labels is not None:
        c.labels = <const int64_t *>contiguous("labels", labels, cnp.NPY_INT64, batch * timesteps)
    if weights is not None:
        c.weights = <const float *>contiguous("weights", weights, cnp.NPY_FLOAT32, batch)
    if dz is not None:
        c.dscores = <float *>writable("dz", dz, cnp.PyArray_SIZE(z))
        c.dchain = c.dscores + (c.chain - c.scores)
        c.dfirst, c.dlast = c.dchain + c.tags * c.tags, c.dchain + (c.tags + 1) * c.tags
    cdef cnp.npy_intp shape = batch
    losses = cnp.PyArray_EMPTY(1, &shape, cnp.NPY_FLOAT64, 0)
    c.losses = <double *>cnp.PyArray_DATA(losses)
    cdef Buffer scratch = Buffer()
    cdef float *memory = scratch.get(fr_crf_scratch(&c))
    cdef PyThreadState *gil = let_go(40.0 * batch * timesteps * c.tags * c.tags)
    status = fr_crf_loss(&c, memory)
    take_back(gil)
    if status == FR_BAD_INDEX:
        for i in range(batch * timesteps):
            if (c.mask is NULL or c.mask[i]) and not 0 <= c.labels[i] < c.tags:
                raise ValueError(f"y_true: expected labels in [0, {c.tags}), the tags of the CRF, "
                                 f"received {c.labels[i]}")
    raise_status(status)
    return losses


def crf_path(path, z, mask=None):
    """path (batch, timesteps, tags), float32, becomes one-hot: the path of the highest score, of
    equal ones the first, and in masked steps the first tag. z: as in crf_loss."""
    cdef fr_crf c
    cdef int status
    if not cnp.PyArray_Check(path) or cnp.PyArray_NDIM(path) != 3:
        describe_mismatch("path", "float32 (batch, timesteps, tags)", path)
    crf_of(&c, z, cnp.PyArray_DIM(path, 0), cnp.PyArray_DIM(path, 1), mask)
    cdef float *out = <float *>writable("path", path, c.batch * c.timesteps * c.tags)
    cdef Buffer scratch = Buffer()
    cdef float *memory = scratch.get(fr_crf_scratch(&c))
    cdef PyThreadState *gil = let_go(4.0 * c.batch * c.timesteps * c.tags * c.tags)
    status = fr_crf_path(&c, out, memory)
    take_back(gil)
    raise_status(status)
