/* The two passes of Pillow's resize (src/libImaging/Resample.c, 8 bits per channel) for RGB images, written so that the
   compiler can vectorise them.

   In each pass a pixel is the weighted sum of `taps` neighbours, computed in 32 bits and rounded to 8 bits. Weights are
   in units of 2^-22; hrnet/resample.py computes them. None is negative, and they add up to 1, except for rounding, so the
   sum needs no clipping. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

#define BITS 22
#define HALF (1 << (BITS - 1))

/* One binary for every x86-64: the loader selects the AVX2 version if the processor supports it. */
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__)
#define MULTIVERSION __attribute__((target_clones("avx2", "default")))
#else
#define MULTIVERSION
#endif

/* Red, green, blue and, unused, the next pixel's red: four lanes are faster than three. */
typedef int32_t lanes __attribute__((vector_size(16)));

typedef struct {
    const int32_t *first;   /* [size] index of the first neighbour of each pixel */
    const int32_t *weights; /* [size][taps] */
    Py_ssize_t size, taps;
} Axis;

/* row: uint8 [width][3]; wide: int32 [3 * width + 3 * taps + 1], the row's values, then zeros;
   sums: int32 [3 * size + 1], scratch; out: uint8 [size][3]. */
MULTIVERSION static void along_row(const uint8_t *restrict row, Py_ssize_t width, const Axis *x, int32_t *restrict wide,
                             int32_t *restrict sums, uint8_t *restrict out) {
    for (Py_ssize_t i = 0; i < 3 * width; i++) wide[i] = row[i];
    for (Py_ssize_t i = 0; i < x->size; i++) {
        const int32_t *pixel = wide + 3 * x->first[i];
        const int32_t *weights = x->weights + i * x->taps;
        lanes sum = {HALF, HALF, HALF, HALF};
        for (Py_ssize_t k = 0; k < x->taps; k++) {
            lanes value;
            memcpy(&value, pixel + 3 * k, sizeof value);
            sum += value * weights[k];
        }
        memcpy(sums + 3 * i, &sum, sizeof sum);
    }
    for (Py_ssize_t i = 0; i < 3 * x->size; i++) out[i] = (uint8_t)(sums[i] >> BITS);
}

/* rows: uint8 [taps][length]; sums: int32 [length], scratch; out: uint8 [length]. */
MULTIVERSION static void across_rows(const uint8_t *rows, const int32_t *weights, Py_ssize_t taps, Py_ssize_t length,
                               int32_t *restrict sums, uint8_t *restrict out) {
    for (Py_ssize_t i = 0; i < length; i++) sums[i] = HALF;
    for (Py_ssize_t k = 0; k < taps; k++) {
        const uint8_t *restrict row = rows + k * length;
        const int32_t weight = weights[k];
        for (Py_ssize_t i = 0; i < length; i++) sums[i] += row[i] * weight;
    }
    for (Py_ssize_t i = 0; i < length; i++) out[i] = (uint8_t)(sums[i] >> BITS);
}

static int resample_into(const uint8_t *source, Py_ssize_t width, const Axis *x, const Axis *y, uint8_t *target) {
    const Py_ssize_t length = 3 * x->size, top = y->first[0];
    const Py_ssize_t height = y->first[y->size - 1] + y->taps - top;
    int32_t *wide = calloc(3 * (width + x->taps) + 1, sizeof(int32_t));
    int32_t *sums = malloc((length + 1) * sizeof(int32_t));
    uint8_t *resized = malloc(height * length); /* rows after the first pass */
    const int allocated = wide && sums && resized;
    if (allocated) {
        for (Py_ssize_t i = 0; i < height; i++)
            along_row(source + 3 * width * (top + i), width, x, wide, sums, resized + i * length);
        for (Py_ssize_t i = 0; i < y->size; i++)
            across_rows(resized + (y->first[i] - top) * length, y->weights + i * y->taps, y->taps, length, sums,
                        target + i * length);
    }
    free(wide);
    free(sums);
    free(resized);
    return allocated;
}

/* Fill in `axis`; return an error message if it would read outside of the caller's buffers, else NULL. */
static const char *read_axis(const Py_buffer *first, const Py_buffer *weights, Py_ssize_t end, Axis *axis) {
    axis->first = first->buf;
    axis->weights = weights->buf;
    axis->size = first->len / (Py_ssize_t)sizeof(int32_t);
    if (axis->size == 0 || weights->len == 0 || weights->len % first->len) return "expected weights for each pixel";
    axis->taps = weights->len / first->len;
    for (Py_ssize_t i = 0; i < axis->size; i++)
        if (axis->first[i] < 0 || axis->first[i] + axis->taps > end || axis->first[i] < axis->first[0] ||
            axis->first[i] > axis->first[axis->size - 1])
            return "a neighbour is outside of the image";
    return NULL;
}

PyDoc_STRVAR(resample_doc,
             "resample(source, width, x_first, x_weights, y_first, y_weights, target)\n\n"
             "source: uint8 [height, width, 3]; *_first: int32 [n], first neighbour of each column or row;\n"
             "*_weights: int32 [n, taps], in 2**-22; target: uint8 [rows, columns, 3], output. All contiguous.\n"
             "Source columns (x_first to x_first + taps - 1) may extend beyond the right border (read as 0);\n"
             "source rows must all exist.\n"
             "Raises ValueError.");

static PyObject *resample(PyObject *module, PyObject *args) {
    Py_buffer source, x_first, x_weights, y_first, y_weights, target;
    Py_ssize_t width;
    if (!PyArg_ParseTuple(args, "y*ny*y*y*y*w*", &source, &width, &x_first, &x_weights, &y_first, &y_weights, &target))
        return NULL;
    Axis x, y;
    const char *wrong = width < 1 || source.len % (3 * width) ? "expected whole rows of RGB pixels" : NULL;
    if (!wrong) wrong = read_axis(&x_first, &x_weights, width + x_weights.len / (x_first.len ? x_first.len : 1), &x);
    if (!wrong) wrong = read_axis(&y_first, &y_weights, source.len / (3 * width), &y);
    if (!wrong && target.len != 3 * x.size * y.size) wrong = "expected a target of rows x columns";
    if (wrong)
        PyErr_SetString(PyExc_ValueError, wrong);
    else if (!resample_into(source.buf, width, &x, &y, target.buf))
        PyErr_NoMemory();
    PyBuffer_Release(&source);
    PyBuffer_Release(&x_first);
    PyBuffer_Release(&x_weights);
    PyBuffer_Release(&y_first);
    PyBuffer_Release(&y_weights);
    PyBuffer_Release(&target);
    if (PyErr_Occurred()) return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {{"resample", resample, METH_VARARGS, resample_doc}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_resample", NULL, -1, methods, NULL, NULL, NULL, NULL};
PyMODINIT_FUNC PyInit__resample(void) { return PyModule_Create(&definition); }
