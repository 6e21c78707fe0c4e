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

static double floats_of(fastrnn_shape s) {
    return (double)s.batch * (double)(s.timesteps + 1) * (double)s.features;
}

/* Runs a model that has been read, of inputs of 2 rows; 1 if it ran. */
static int ask(const fastrnn_model *model) {
    fastrnn_sizes sizes;
    fastrnn_port p;
    fastrnn_graph_sizes(model, &sizes);
    const int32_t ins = sizes.inputs, outs = sizes.outputs;
    fastrnn_shape *shapes = calloc((size_t)(ins + outs), sizeof *shapes), *made = shapes + ins;
    void **x = calloc((size_t)ins, sizeof *x);
    float **y = calloc((size_t)outs, sizeof *y), *state = NULL;
    const int64_t batch = hostile[any_below(11)], times = hostile[any_below(11)];
    for (int32_t i = 0; i < ins; i++) {
        if (fastrnn_graph_input(model, i, &p) || strlen(p.name) > 1 << 16) exit(1);
        shapes[i] = (fastrnn_shape){batch, p.sequences ? times : 0, p.features};
    }
    if (fastrnn_graph_shapes(model, shapes, made) == FASTRNN_OK)
        for (int32_t i = 0; i < outs; i++)
            if (made[i].batch != batch || floats_of(made[i]) > 0x1p48) exit(1);
    double most = (double)(sizes.state > 0 ? sizes.state : 1);
    for (int32_t i = 0; i < ins; i++) {
        fastrnn_graph_input(model, i, &p);
        shapes[i] = (fastrnn_shape){2, p.timesteps ? p.timesteps : p.sequences ? 5 : 0, p.features};
        most += floats_of(shapes[i]);
    }
    int ran = fastrnn_graph_shapes(model, shapes, made) == FASTRNN_OK;
    for (int32_t i = 0; i < outs && ran; i++) most += floats_of(made[i]);
    ran = ran && most < 1e5;
    for (int32_t i = 0; i < ins && ran; i++) {
        const int64_t n = 2 * (shapes[i].timesteps ? shapes[i].timesteps : 1) * shapes[i].features;
        int32_t *numbers = x[i] = malloc((size_t)n * 4);
        fastrnn_graph_input(model, i, &p);
        for (int64_t j = 0; j < n; j++)
            numbers[j] = p.indices ? (int32_t)any_below(12) - 1 : (int32_t)any_below(1u << 30);
    }
    for (int32_t i = 0; i < outs && ran; i++)
        y[i] = malloc((size_t)(2 * (made[i].timesteps ? made[i].timesteps : 1) * made[i].features) * 4);
    if (ran && sizes.state >= 0) state = calloc((size_t)(2 * sizes.state + 1), 4);
    if (ran) {
        fastrnn_session *session;
        if (fastrnn_session_new(&session, model)) exit(1);
        ran = fastrnn_graph_run(session, (const void *const *)x, shapes, any_below(2) ? state : NULL, y) ==
              FASTRNN_OK;
        fastrnn_session_free(session);
    }
    for (int32_t i = 0; i < ins; i++) free(x[i]);
    for (int32_t i = 0; i < outs; i++) free(y[i]);
    free(shapes), free(x), free(y), free(state);
    return ran;
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
        if (fastrnn_model_read(&model, exact, size) != FASTRNN_OK) {
            if (model) return 1;
            refused++;
        } else {
            ran += ask(model);
            fastrnn_model_free(model);
        }
        free(exact);
    }
    printf("refused %ld, ran %ld\n", refused, ran);
    return 0;
}
