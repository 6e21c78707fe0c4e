/* Linear-chain conditional random fields (Lafferty, McCallum & Pereira 2001) on one row of the batch.
 *
 * In logarithms, each step less its largest, whose sum is in double: a sum of exponentials loses no
 * term that counts, whatever the scores. `chain` is fr_crf's, `width` apart and less its largest number
 * `top`, with first and last below; `alphas` (timesteps, width) has a row for each step that the mask
 * leaves. The lanes beyond the last tag are not read, or are multiplied by zeros. */

#define NEVER (-3.4028235e38f) /* in the place of -inf where it is subtracted */

/* Lanes [j, j + V) of n numbers, those beyond them as `other`. */
INLINE vf part_of(const float *x, int64_t j, int64_t n, float other) {
    const int64_t count = lanes(n - j);
    const vf part = load_n(x + j, count);
    return count == V ? part : choose(lane_numbers() < (int32_t)count, part, splat(other));
}

static float largest(const float *x, int64_t n) {
    vf tops = splat(NEVER);
    for (int64_t j = 0; j < n; j += V) tops = larger(part_of(x, j, n, NEVER), tops);
    float top = tops[0];
    for (int i = 1; i < V; i++) top = tops[i] > top ? tops[i] : top;
    return top;
}

/* x less its largest number, which is returned. */
static float settle(float *x, int64_t n) {
    const float top = largest(x, n);
    for (int64_t j = 0; j < n; j += V) store(x + j, load(x + j) - top);
    return top;
}

/* For tags [j, j + V) of a step the exponentials of what comes from each tag before, less the largest,
 * and their sum; kept in `exps` (tags, width) if not NULL. */
INLINE vf arrivals(const float *before, const float *chain, int64_t n, int64_t width, int64_t j,
                   vf *most, float *exps) {
    vf tops = splat(NEVER), sum = {0};
    for (int64_t i = 0; i < n; i++) tops = larger(before[i] + load(chain + i * width + j), tops);
    for (int64_t i = 0; i < n; i++) {
        const vf e = falling_exp(before[i] + load(chain + i * width + j) - tops);
        if (exps) store(exps + i * width + j, e);
        sum += e;
    }
    *most = tops;
    return at_least(1e-37f, sum);
}

INLINE int takes_part(const fr_crf *c, int64_t place) { return !c->mask || c->mask[place]; }

/* Negative log-likelihood of the labels, or log of the sum over all paths without; the gradients of
 * weight times it: dscores of the row are overwritten, dchain (tags + 2, width) is added to. scratch:
 * (timesteps + tags + 2) width. */
static double crf_loss(const fr_crf *c, const float *chain, int64_t width, double top, int64_t row,
                       float *dchain, float *scratch) {
    const int64_t n = c->tags, T = c->timesteps, first = row * T;
    const float *left = chain + n * width, *right = left + width;
    float *alphas = scratch, *exps = alphas + T * width, *gamma = exps + n * width;
    float *shares = gamma + width;
    int64_t steps = 0, label = 0;
    double total = 0, path = 0;
    for (int64_t t = 0; t < T; t++) {
        if (!takes_part(c, first + t)) continue;
        const float *scores = c->scores + (first + t) * n;
        float *alpha = alphas + steps * width;
        const float most = largest(scores, n);
        for (int64_t j = 0; j < n; j += V) {
            vf x = part_of(scores, j, n, NEVER) - most, tops = splat(0);
            if (steps == 0) {
                x += load(left + j);
            } else {
                const vf sum = arrivals(alpha - width, chain, n, width, j, &tops, NULL);
                x += tops + vlog(sum);
            }
            store(alpha + j, x);
        }
        total += (double)most + (double)settle(alpha, n) + (steps ? top : 0);
        if (c->labels) {
            const int64_t now = c->labels[first + t];
            path += (double)scores[now];
            path += (double)(steps ? chain[label * width + now] : left[now]) + (steps ? top : 0);
            label = now;
        }
        steps++;
    }
    if (c->dscores && steps == 0) memset(c->dscores + first * n, 0, (size_t)(T * n) * sizeof(float));
    if (steps == 0) return 0;
    if (c->labels) path += (double)right[label];

    const float *alpha = alphas + (steps - 1) * width;
    for (int64_t j = 0; j < n; j += V) store(gamma + j, load(alpha + j) + load(right + j));
    const float most = settle(gamma, n);
    double sum = 1e-37; /* no path may be possible */
    for (int64_t j = 0; j < n; j += V) {
        const vf e = falling_exp(part_of(gamma, j, n, NEVER));
        store(gamma + j, e);
        sum += wide_sum(e);
    }
    total += (double)most + log(sum);
    if (!c->dscores) return total - path;

    const float weight = c->weights ? c->weights[row] : 1.0f, target = c->labels ? weight : 0.0f;
    float *dleft = dchain + n * width, *dright = dleft + width;
    for (int64_t j = 0; j < n; j += V) {
        const vf share = load(gamma + j) * (float)(weight / sum);
        store(gamma + j, share);
        store(dright + j, load(dright + j) + share);
    }
    dright[label] -= target;
    for (int64_t t = T - 1; t >= 0; t--) {
        float *out = c->dscores + (first + t) * n;
        if (!takes_part(c, first + t)) {
            memset(out, 0, (size_t)n * sizeof(float));
            continue;
        }
        memcpy(out, gamma, (size_t)n * sizeof(float));
        label = c->labels ? c->labels[first + t] : 0;
        out[label] -= target;
        if (--steps == 0) {
            for (int64_t j = 0; j < n; j += V) store(dleft + j, load(dleft + j) + load(gamma + j));
            dleft[label] -= target;
            continue;
        }
        const float *before = alphas + (steps - 1) * width;
        for (int64_t j = 0; j < n; j += V) {
            vf tops;
            store(shares + j, load(gamma + j) / arrivals(before, chain, n, width, j, &tops, exps));
        }
        for (int64_t i = 0; i < n; i++) {
            vf from = {0};
            for (int64_t j = 0; j < n; j += V) {
                const vf both = load(exps + i * width + j) * load(shares + j);
                float *d = dchain + i * width + j;
                store(d, load(d) + both);
                from += both;
            }
            gamma[i] = sum_lanes(from);
        }
        if (c->labels) {
            int64_t earlier = t - 1;
            while (!takes_part(c, first + earlier)) earlier--;
            dchain[c->labels[first + earlier] * width + label] -= target;
        }
    }
    return total - path;
}

/* path (timesteps, tags): 1 where the path of the highest score is; the first tag in steps that are
 * masked. The first of equals. scratch: (timesteps + 2) width. */
static void crf_path(const fr_crf *c, const float *chain, int64_t width, int64_t row, float *path,
                     float *scratch) {
    const int64_t n = c->tags, T = c->timesteps, first = row * T;
    float *origins = scratch, *before = origins + T * width, *now = before + width;
    int64_t steps = 0;
    for (int64_t t = 0; t < T; t++) {
        if (!takes_part(c, first + t)) continue;
        const float *scores = c->scores + (first + t) * n, most = largest(scores, n);
        for (int64_t j = 0; j < n; j += V) {
            vf best = load(chain + n * width + j);
            vi origin = {0};
            if (steps) best = before[0] + load(chain + j);
            for (int64_t i = 1; i < n && steps; i++) {
                const vf x = before[i] + load(chain + i * width + j);
                const vi better = x > best;
                best = choose(better, x, best);
                origin = (better & (int32_t)i) | (~better & origin);
            }
            store(now + j, best + (part_of(scores, j, n, NEVER) - most));
            store(origins + steps * width + j, (vf)origin);
        }
        settle(now, n);
        float *other = before;
        before = now, now = other;
        steps++;
    }
    int32_t tag = 0;
    const float *right = chain + (n + 1) * width;
    for (int32_t i = 1; i < n && steps; i++)
        if (before[i] + right[i] > before[tag] + right[tag]) tag = i;
    memset(path, 0, (size_t)(T * n) * sizeof(float));
    for (int64_t t = T - 1; t >= 0; t--) {
        const int used = takes_part(c, first + t);
        path[t * n + (used ? tag : 0)] = 1.0f;
        if (used && --steps) memcpy(&tag, origins + steps * width + tag, sizeof tag);
    }
}
