/* Training on flat arrays: optimizer updates, losses with their gradients, counts of matches.
 * Every kernel works on a range, so that results do not depend on who does which range. */

INLINE int64_t lanes(int64_t left) { return left < V ? left : V; }

INLINE vi lane_numbers(void) {
    vi k;
    for (int i = 0; i < V; i++) k[i] = i;
    return k;
}

INLINE vf vsqrt(vf x) {
#if defined(__AVX512F__)
    return (vf)_mm512_sqrt_ps((__m512)x);
#elif defined(__AVX2__)
    return (vf)_mm256_sqrt_ps((__m256)x);
#elif defined(__x86_64__)
    return (vf)_mm_sqrt_ps((__m128)x);
#else
    for (int i = 0; i < V; i++) x[i] = sqrtf(x[i]);
    return x;
#endif
}

INLINE vf larger(vf a, vf b) { return choose(a > b, a, b); } /* a NaN in b stays */

/* Adds every lane to a sum of its own, in double. */
INLINE void add_lanes(double sums[V], vf x) {
    for (int i = 0; i < V; i++) sums[i] += (double)x[i];
}
INLINE double total_of(const double sums[V]) {
    double total = 0;
    for (int i = 0; i < V; i++) total += sums[i];
    return total;
}
INLINE double wide_sum(vf x) {
    double total = 0;
    for (int i = 0; i < V; i++) total += (double)x[i];
    return total;
}

/* --- optimizers ------------------------------------------------------------------------------ */

INLINE vf decayed(const fr_update *u, const float *p, int64_t n) {
    vf w = load_n(p, n);
    return w - w * u->decay;
}

static void update_sgd(const fr_update *u, int64_t begin, int64_t end) {
    float *m = u->slots[0];
    for (int64_t i = begin; i < end; i += V) {
        const int64_t n = lanes(end - i);
        vf w = decayed(u, u->values + i, n), step = load_n(u->gradients + i, n) * u->rate;
        if (m) {
            vf v = load_n(m + i, n) * u->momentum - step;
            store_n(m + i, v, n);
            w += u->nesterov ? v * u->momentum - step : v;
        } else {
            w -= step;
        }
        store_n(u->values + i, w, n);
    }
}

static void update_rmsprop(const fr_update *u, int64_t begin, int64_t end) {
    float *v = u->slots[0], *m = u->slots[1], *mean = u->slots[2];
    for (int64_t i = begin; i < end; i += V) {
        const int64_t n = lanes(end - i);
        vf w = decayed(u, u->values + i, n), g = load_n(u->gradients + i, n);
        vf square = load_n(v + i, n);
        square += (g * g - square) * u->new_square;
        store_n(v + i, square, n);
        if (mean) {
            vf a = load_n(mean + i, n);
            a += (g - a) * u->new_gradient;
            store_n(mean + i, a, n);
            square -= a * a;
        }
        vf step = g * u->rate / vsqrt(square + u->epsilon);
        if (m) {
            step += load_n(m + i, n) * u->momentum;
            store_n(m + i, step, n);
        }
        store_n(u->values + i, w - step, n);
    }
}

static void update_adam(const fr_update *u, int64_t begin, int64_t end) {
    float *m = u->slots[0], *v = u->slots[1], *largest = u->slots[2];
    for (int64_t i = begin; i < end; i += V) {
        const int64_t n = lanes(end - i);
        vf w = decayed(u, u->values + i, n), g = load_n(u->gradients + i, n);
        vf mean = load_n(m + i, n), square = load_n(v + i, n);
        mean += (g - mean) * u->new_gradient;
        square += (g * g - square) * u->new_square;
        store_n(m + i, mean, n);
        store_n(v + i, square, n);
        if (largest) {
            square = larger(load_n(largest + i, n), square);
            store_n(largest + i, square, n);
        }
        vf direction = mean * u->mean_factor + g * u->gradient_factor;
        w -= direction * u->rate / (vsqrt(square * u->square_factor) + u->epsilon);
        store_n(u->values + i, w, n);
    }
}

static void update_adamax(const fr_update *u, int64_t begin, int64_t end) {
    float *m = u->slots[0], *norm = u->slots[1];
    for (int64_t i = begin; i < end; i += V) {
        const int64_t n = lanes(end - i);
        vf w = decayed(u, u->values + i, n), g = load_n(u->gradients + i, n);
        vf mean = load_n(m + i, n);
        mean += (g - mean) * u->new_gradient;
        vf largest = larger(load_n(norm + i, n) * u->momentum, absolute(g));
        store_n(m + i, mean, n);
        store_n(norm + i, largest, n);
        store_n(u->values + i, w - mean * u->rate / (largest + u->epsilon), n);
    }
}

static void update_adagrad(const fr_update *u, int64_t begin, int64_t end) {
    float *sum = u->slots[0];
    for (int64_t i = begin; i < end; i += V) {
        const int64_t n = lanes(end - i);
        vf w = decayed(u, u->values + i, n), g = load_n(u->gradients + i, n);
        vf squares = load_n(sum + i, n) + g * g;
        store_n(sum + i, squares, n);
        store_n(u->values + i, w - g * u->rate / vsqrt(squares + u->epsilon), n);
    }
}

static void update_adadelta(const fr_update *u, int64_t begin, int64_t end) {
    float *v = u->slots[0], *d = u->slots[1];
    for (int64_t i = begin; i < end; i += V) {
        const int64_t n = lanes(end - i);
        vf w = decayed(u, u->values + i, n), g = load_n(u->gradients + i, n);
        vf square = load_n(v + i, n), change = load_n(d + i, n);
        square += (g * g - square) * u->new_square;
        vf delta = vsqrt(change + u->epsilon) * g / vsqrt(square + u->epsilon);
        change += (delta * delta - change) * u->new_square;
        store_n(v + i, square, n);
        store_n(d + i, change, n);
        store_n(u->values + i, w - delta * u->rate, n);
    }
}

static void pointwise_update(const fr_update *u, int64_t begin, int64_t end) {
    switch (u->rule) {
    case FR_SGD: update_sgd(u, begin, end); break;
    case FR_RMSPROP: update_rmsprop(u, begin, end); break;
    case FR_ADAM: update_adam(u, begin, end); break;
    case FR_ADAMAX: update_adamax(u, begin, end); break;
    case FR_ADAGRAD: update_adagrad(u, begin, end); break;
    case FR_ADADELTA: update_adadelta(u, begin, end); break;
    }
}

/* The square of a float is exact in double: the same bits on every instruction set. */
static double pointwise_sum_of_squares(const float *x, int64_t begin, int64_t end) {
    double sums[16] = {0}, total = 0;
    int64_t i = begin;
    for (; i + 16 <= end; i += 16)
        for (int j = 0; j < 16; j++) sums[j] += (double)x[i + j] * (double)x[i + j];
    for (int j = 0; i + j < end; j++) sums[j] += (double)x[i + j] * (double)x[i + j];
    for (int j = 0; j < 16; j++) total += sums[j];
    return total;
}

static void pointwise_scale(float *x, float factor, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i += V) {
        const int64_t n = lanes(end - i);
        store_n(x + i, load_n(x + i, n) * factor, n);
    }
}

static void pointwise_clip(float *x, float bound, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i += V) {
        const int64_t n = lanes(end - i);
        store_n(x + i, at_most(bound, at_least(-bound, load_n(x + i, n))), n);
    }
}

/* --- losses ---------------------------------------------------------------------------------- */

/* exp(x) for x <= 0, zero where it would be subnormal. */
INLINE vf falling_exp(vf x) { return choose(x < -87.0f, splat(0), vexp(x)); }

/* Loss of one element and its derivative; y becomes the activation of z. */
INLINE vf element_loss(int kind, vf z, vf t, vf *y, vf *slope) {
    if (kind == FR_SIGMOID_CROSSENTROPY) {
        vf e = falling_exp(-absolute(z)), u = 1.0f + e, r = 1.0f / u;
        vf log1p = vlog(u) + (e - (u - 1.0f)) * r;
        *y = choose(z < 0.0f, e, splat(1)) * r;
        *slope = *y - t;
        return at_least(0.0f, z) - z * t + log1p;
    }
    vf d = z - t;
    *y = z;
    if (kind == FR_SQUARED_ERROR) {
        *slope = d + d;
        return d * d;
    }
    *slope = choose(d > 0.0f, splat(1), choose(d < 0.0f, splat(-1), d)); /* 0 and NaN stay */
    return absolute(d);
}

INLINE double element_losses(int kind, const fr_loss *l, int64_t row, int64_t rows) {
    const int64_t begin = row * l->columns, end = begin + rows * l->columns;
    double sums[V] = {0};
    for (int64_t i = begin; i < end; i += V) {
        const int64_t n = lanes(end - i);
        vf t = load_n(l->targets + i, n) * l->target_scale + l->target_offset, y, slope;
        vf value = element_loss(kind, load_n(l->z + i, n), t, &y, &slope), factor = splat(l->scale);
        if (l->weights) {
            vf weight = {0};
            if (l->columns == 1) weight = load_n(l->weights + i, n);
            else
                for (int64_t j = 0; j < n; j++) weight[j] = l->weights[(i + j) / l->columns];
            value *= weight;
            factor *= weight;
        }
        if (l->y) store_n(l->y + i, y, n);
        if (l->dz) store_n(l->dz + i, slope * factor, n);
        if (n < V) value = choose(lane_numbers() < (int32_t)n, value, splat(0));
        add_lanes(sums, value);
    }
    return total_of(sums);
}

static float row_maximum(const float *z, int64_t columns) {
    const vi lane = lane_numbers();
    vf tops = splat(-INFINITY);
    for (int64_t c = 0; c < columns; c += V) {
        const int32_t n = (int32_t)lanes(columns - c);
        tops = larger(tops, choose(lane < n, load_n(z + c, n), tops));
    }
    float top = tops[0];
    for (int i = 1; i < V; i++) top = tops[i] > top ? tops[i] : top;
    return top;
}

static void pointwise_activate(int activation, float *y, const float *x, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i += V) {
        const int64_t n = lanes(end - i);
        store_n(y + i, activate(activation, load_n(x + i, n)), n);
    }
}

static void pointwise_activate_back(int activation, float *dx, const float *dy, const float *y,
                                    int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i += V) {
        const int64_t n = lanes(end - i);
        store_n(dx + i, load_n(dy + i, n) * slope(activation, load_n(y + i, n)), n);
    }
}

static void pointwise_softmax(float *y, int64_t columns, int64_t row, int64_t rows) {
    const vi lane = lane_numbers();
    for (float *z = y + row * columns; rows > 0; rows--, z += columns) {
        const float top = row_maximum(z, columns);
        vf sums = {0};
        for (int64_t c = 0; c < columns; c += V) {
            const int32_t n = (int32_t)lanes(columns - c);
            const vf e = choose(lane < n, falling_exp(load_n(z + c, n) - top), splat(0));
            store_n(z + c, e, n);
            sums += e;
        }
        const float over = (float)(1.0 / wide_sum(sums));
        for (int64_t c = 0; c < columns; c += V) {
            const int64_t n = lanes(columns - c);
            store_n(z + c, load_n(z + c, n) * over, n);
        }
    }
}

/* One row: y = softmax(z); returns the loss, dz if not NULL is its gradient times factor. The
 * gradient is sum(t) * y - t: the exact one also where the targets do not sum to 1. */
static double softmax_row(float *y, float *dz, const fr_loss *l, int64_t row, float factor) {
    const int64_t columns = l->columns;
    const float *z = l->z + row * columns;
    const float *targets = l->labels ? NULL : l->targets + row * columns;
    const float aim = l->labels ? z[l->labels[row]] : 0; /* dz may take the place of z */
    const vi lane = lane_numbers();
    const float top = row_maximum(z, columns);

    vf sums = {0}, target_sums = {0}, products = {0};
    for (int64_t c = 0; c < columns; c += V) {
        const int32_t n = (int32_t)lanes(columns - c);
        const vi inside = lane < n;
        vf x = load_n(z + c, n) - top, e = choose(inside, falling_exp(x), splat(0));
        store_n(y + c, e, n);
        sums += e;
        if (targets) {
            vf t = load_n(targets + c, n) * l->target_scale + l->target_offset;
            t = choose(inside, t, splat(0));
            target_sums += t;
            products += choose(t == 0.0f, t, t * x); /* a class may be ruled out by z = -inf */
        }
    }
    const double sum = wide_sum(sums), target_sum = wide_sum(target_sums);
    const float over = (float)(1.0 / sum), t_sum = (float)target_sum;
    for (int64_t c = 0; c < columns; c += V) {
        const int64_t n = lanes(columns - c);
        vf p = load_n(y + c, n) * over;
        store_n(y + c, p, n);
        if (!dz) continue;
        if (targets) {
            vf t = load_n(targets + c, n) * l->target_scale + l->target_offset;
            store_n(dz + c, (p * t_sum - t) * factor, n);
        } else {
            store_n(dz + c, p * factor, n);
        }
    }
    if (targets) return target_sum * log(sum) - wide_sum(products);
    const int64_t label = l->labels[row];
    if (dz) dz[label] = (y[label] - 1.0f) * factor;
    return log(sum) - (double)(aim - top);
}

static double softmax_losses(const fr_loss *l, int64_t row, int64_t rows) {
    double total = 0;
    for (int64_t r = row; r < row + rows; r++) {
        const float weight = l->weights ? l->weights[r] : 1.0f;
        float *dz = l->dz ? l->dz + r * l->columns : NULL;
        total += (double)weight * softmax_row(l->y + r * l->columns, dz, l, r, weight * l->scale);
    }
    return total;
}

static double pointwise_loss(const fr_loss *l, int64_t row, int64_t rows) {
    switch (l->kind) {
    case FR_SIGMOID_CROSSENTROPY: return element_losses(FR_SIGMOID_CROSSENTROPY, l, row, rows);
    case FR_SQUARED_ERROR: return element_losses(FR_SQUARED_ERROR, l, row, rows);
    case FR_ABSOLUTE_ERROR: return element_losses(FR_ABSOLUTE_ERROR, l, row, rows);
    default: return softmax_losses(l, row, rows);
    }
}

/* --- accuracy -------------------------------------------------------------------------------- */

static int64_t pointwise_binary_matches(float *matches, const float *y_true, const float *y_pred,
                                        float threshold, int64_t begin, int64_t end) {
    const vf one = splat(1);
    vi counts = {0};
    for (int64_t i = begin; i < end; i += V) {
        const int64_t n = lanes(end - i);
        vf positive = choose(load_n(y_pred + i, n) > threshold, one, splat(0));
        vi equal = (load_n(y_true + i, n) == positive) & (lane_numbers() < (int32_t)n);
        counts -= equal;
        if (matches) store_n(matches + i, choose(equal, one, splat(0)), n);
    }
    int64_t count = 0;
    for (int i = 0; i < V; i++) count += counts[i];
    return count;
}

/* The first maximum; the first NaN if there is one. */
static int64_t argmax(const float *x, int64_t columns) {
    const vi lane = lane_numbers();
    vf tops = splat(-INFINITY);
    vi places = {0}, nan = {0};
    for (int64_t c = 0; c < columns; c += V) {
        const int32_t n = (int32_t)lanes(columns - c);
        vf v = choose(lane < n, load_n(x + c, n), tops);
        const vi better = v > tops;
        nan |= v != v;
        places = (better & (lane + (int32_t)c)) | (~better & places);
        tops = choose(better, v, tops);
    }
    int any = 0;
    for (int i = 0; i < V; i++) any |= nan[i];
    if (any)
        for (int64_t c = 0; c < columns; c++)
            if (x[c] != x[c]) return c;
    int best = 0;
    for (int i = 1; i < V; i++)
        if (tops[i] > tops[best] || (tops[i] == tops[best] && places[i] < places[best])) best = i;
    return places[best];
}

static int64_t pointwise_class_matches(float *matches, const float *y_true, const int64_t *labels,
                                       const float *y_pred, int64_t columns, int64_t row,
                                       int64_t rows) {
    int64_t count = 0;
    for (int64_t r = row; r < row + rows; r++) {
        const int64_t label = labels ? labels[r] : argmax(y_true + r * columns, columns);
        const int match = argmax(y_pred + r * columns, columns) == label;
        count += match;
        if (matches) matches[r] = (float)match;
    }
    return count;
}
