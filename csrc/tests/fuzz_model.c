/* Damages a model file in many ways, its checksum made right again, and loads and runs each:
 *
 *     fuzz_model MODEL COUNT [SEED]
 *
 * Built with AddressSanitizer and UndefinedBehaviorSanitizer it fails at the first bad access. It
 * prints how many of the files were refused, and how many ran. */
#include "fastrnn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t seed = 1;
static uint64_t any_below(uint64_t n) { /* xorshift */
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    return seed % n;
}

static uint32_t crc32(const uint8_t *bytes, size_t size) {
    uint32_t crc = 0xffffffff;
    for (size_t i = 0; i < size; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
    }
    return ~crc;
}

static const int64_t hostile[] = {0, 1, -1, INT32_MAX, 1ll << 32, 1ll << 40, 1ll << 48, 1ll << 62,
                                  INT64_MAX - 1, INT64_MAX, INT64_MIN};

static void damage(uint8_t *bytes, size_t *size) {
    static const int64_t telling[] = {0, 1, 2, 3, 7, 13, -1, 64, 1 << 20, INT32_MAX, INT64_MAX, INT64_MIN};
    for (uint64_t times = 1 + any_below(3); times > 0 && *size > 48; times--) {
        const size_t at = 16 + any_below(*size - 24), whole = at / 8 * 8;
        switch (any_below(4)) {
        case 0: bytes[at] ^= (uint8_t)(1 << any_below(8)); break;
        case 1: bytes[at] = (uint8_t)any_below(256); break;
        case 2: memcpy(bytes + whole, &telling[any_below(12)], 8); break;
        default: if (any_below(4) == 0) *size = 24 + any_below(*size - 24) / 8 * 8;
        }
    }
    const uint64_t written = *size;
    if (any_below(8)) memcpy(bytes + 16, &written, 8);
    const uint32_t crc = crc32(bytes + 16, *size - 16);
    memcpy(bytes + 12, &crc, 4);
}

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    if (argc > 3) seed = strtoull(argv[3], NULL, 10);
    FILE *file = fopen(argv[1], "rb");
    static uint8_t whole[1 << 20], bytes[1 << 20];
    const size_t full = file ? fread(whole, 1, sizeof whole, file) : 0;
    if (full < 48 || full == sizeof whole) return 2;
    long refused = 0, ran = 0;
    for (long n = atol(argv[2]); n > 0; n--) {
        size_t size = full;
        memcpy(bytes, whole, full);
        damage(bytes, &size);
        uint8_t *exact = malloc(size); /* so that reading past the end is seen */
        memcpy(exact, bytes, size);
        fastrnn_model *model;
        fastrnn_session *session;
        fastrnn_input input;
        fastrnn_shape output;
        if (fastrnn_model_read(&model, exact, size) != FASTRNN_OK) {
            if (model) return 1;
            refused++;
        } else {
            fastrnn_model_input(model, &input);
            const int64_t batch = hostile[any_below(11)], times = hostile[any_below(11)];
            if (fastrnn_model_output(model, batch, times, &output) == FASTRNN_OK) {
                const double floats = (double)output.batch * (double)(output.timesteps + 1);
                if (output.batch != batch || floats * (double)output.features > 0x1p48) return 1;
            }
            const int64_t steps = input.timesteps ? input.timesteps : input.sequences ? 5 : 1;
            const int status = fastrnn_model_output(model, 2, steps, &output);
            const double out = 2.0 * (double)(output.timesteps + 1) * (double)output.features;
            if (!status && steps < 1000 && input.features < 1000 && out < 1e5) {
                int32_t *x = calloc((size_t)(2 * steps * input.features), 4);
                float *y = malloc((size_t)out * 4);
                float *state = input.state < 0 ? NULL : calloc((size_t)(2 * input.state + 1), 4);
                fastrnn_session_new(&session, model);
                for (int64_t i = 0; i < 2 * steps * input.features; i++)
                    x[i] = input.indices ? (int32_t)any_below(12) - 1 : (int32_t)any_below(1u << 30);
                ran += fastrnn_run(session, x, 2, steps, any_below(2) ? state : NULL, y) == FASTRNN_OK;
                fastrnn_session_free(session);
                free(x), free(y), free(state);
            }
            fastrnn_model_free(model);
        }
        free(exact);
    }
    printf("refused %ld, ran %ld\n", refused, ran);
    return 0;
}
