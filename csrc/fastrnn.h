/* libfastrnn: runs networks that fastrnn has written to a file (fastrnn.to_c), without Python.
 *
 * Every function but fastrnn_status_text returns a status; none prints, exits or throws. A model is
 * never changed once it is loaded: any number of threads may share it, each with a session of its
 * own. All numbers are float32 and in row-major order. */
#ifndef FASTRNN_H
#define FASTRNN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define FASTRNN_API __attribute__((visibility("default")))
#else
#define FASTRNN_API
#endif

/* Grows when what is declared here changes for programs that are there. fastrnn_check_abi(FASTRNN_ABI) gives FASTRNN_WRONG_ABI
 * where header and library do not fit together. */
#define FASTRNN_ABI 1
FASTRNN_API int fastrnn_check_abi(int abi);

enum fastrnn_status {
    FASTRNN_OK = 0,
    FASTRNN_BAD_ARGUMENT = 1,    /* a NULL or a number outside its range */
    FASTRNN_CANNOT_READ = 2,     /* the file cannot be opened or read: see errno */
    FASTRNN_NOT_A_MODEL = 3,     /* damaged, cut short, or no such file at all */
    FASTRNN_TOO_NEW = 4,         /* written for a later version of this library */
    FASTRNN_OUT_OF_MEMORY = 5,
    FASTRNN_BAD_SHAPE = 6,       /* batch or timesteps do not fit the model, or are past all memory */
    FASTRNN_BAD_INDEX = 7,       /* an index outside the Embedding */
    FASTRNN_NOT_STREAMABLE = 8,  /* state for a model that needs whole sequences, or a padded step */
    FASTRNN_WRONG_ABI = 9,
    FASTRNN_OTHER_ISA = 10,      /* the instruction set was changed after the model was loaded */
    FASTRNN_SEVERAL = 11         /* a function for one input and one output, a model of several */
};
FASTRNN_API const char *fastrnn_status_text(int status);

/* --- the machine ------------------------------------------------------------------------------- */

/* Threads that one call may use, 1 at first. */
FASTRNN_API int fastrnn_set_threads(int threads);
/* "base", "avx2" or "avx512"; the best that the CPU has at first. Models are loaded for one set. */
FASTRNN_API int fastrnn_set_isa(const char *name);
FASTRNN_API int fastrnn_isa(const char **name);

/* --- models -------------------------------------------------------------------------------------- */

/* An Embedding below a recurrent layer is kept as its rows' products with the layer's weights, which
 * are taken as the model is loaded, where these are of at most 64 MB. */
typedef struct fastrnn_model fastrnn_model;

FASTRNN_API int fastrnn_model_load(fastrnn_model **model, const char *path);
FASTRNN_API int fastrnn_model_read(fastrnn_model **model, const void *bytes, size_t size);
FASTRNN_API int fastrnn_model_free(fastrnn_model *model); /* after all its sessions */

/* Inputs are float (batch, timesteps, features), or (batch, features) if there are no sequences; or
 * int32_t indices (batch, timesteps), or (batch), if the model begins with an Embedding. The functions
 * from here to fastrnn_run are for models of one input and one output. */
typedef struct {
    int32_t indices, sequences;
    int64_t features;   /* 1 for indices */
    int64_t timesteps;  /* 0 where free */
    int64_t state;      /* floats of state for each stream; -1 if the model cannot be streamed */
} fastrnn_input;
FASTRNN_API int fastrnn_model_input(const fastrnn_model *model, fastrnn_input *input);

/* Outputs are (batch, timesteps, features), or (batch, features), which has timesteps 0 here. */
typedef struct {
    int64_t batch, timesteps, features;
} fastrnn_shape;
FASTRNN_API int fastrnn_model_output(const fastrnn_model *model, int64_t batch, int64_t timesteps,
                                     fastrnn_shape *shape);

/* --- running ------------------------------------------------------------------------------------- */

/* Buffers for one thread's calls. They grow with the largest call. */
typedef struct fastrnn_session fastrnn_session;

FASTRNN_API int fastrnn_session_new(fastrnn_session **session, const fastrnn_model *model);
FASTRNN_API int fastrnn_session_free(fastrnn_session *session);

/* Inputs x to outputs y, which the caller owns; timesteps is 1 where there are no sequences.
 *
 * state: NULL if x holds whole sequences. Otherwise x holds the next time steps of `batch` streams,
 * and state (batch, input.state) what each has seen: zeros at the start of a stream; the call
 * replaces it, unless it fails. A row of it is all there is to a stream: copy it to save one, put it back to go on. */
FASTRNN_API int fastrnn_run(fastrnn_session *session, const void *x, int64_t batch,
                            int64_t timesteps, float *state, float *y);

/* --- models of several inputs and outputs -------------------------------------------------------------
 *
 * For every model; of one input and one output those above do the same. */

typedef struct {
    int32_t inputs, outputs;
    int64_t state;      /* as fastrnn_input.state */
} fastrnn_sizes;
FASTRNN_API int fastrnn_graph_sizes(const fastrnn_model *model, fastrnn_sizes *sizes);

/* An input, or an output, which never is of indices. In Python's order; the same names for several
 * outputs of one layer, empty ones in a chain of layers. The name is the model's. */
typedef struct {
    const char *name;
    int32_t indices, sequences;
    int64_t timesteps, features; /* 0 where a call decides */
} fastrnn_port;
FASTRNN_API int fastrnn_graph_input(const fastrnn_model *model, int32_t number, fastrnn_port *input);
FASTRNN_API int fastrnn_graph_output(const fastrnn_model *model, int32_t number, fastrnn_port *output);

/* inputs and outputs: one shape for each. All inputs are of one batch; timesteps is 0, and not 1, where
 * there are no sequences, features is 1 for indices. */
FASTRNN_API int fastrnn_graph_shapes(const fastrnn_model *model, const fastrnn_shape *inputs,
                                     fastrnn_shape *outputs);

/* x, y: where each input is, and where each output is to be; state as in fastrnn_run. No output may
 * overlap an input or another output. */
FASTRNN_API int fastrnn_graph_run(fastrnn_session *session, const void *const *x,
                                  const fastrnn_shape *inputs, float *state, float *const *y);

#ifdef __cplusplus
}
#endif
#endif
