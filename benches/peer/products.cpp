// Multiplies one matrix of every format with one token and with many, as llama.cpp does it: through ggml's graphs, on
// one thread, with weights in the buffer type that its model loader would choose.
//
// usage: products
//
// Standard error says where each product begins and ends. The counterpart, with the same bytes, sizes and output, is
// crates/kernels/examples/products.rs.

#include "ggml.h"
#include "ggml-alloc.h"
#include "ggml-backend.h"
#include "ggml-cpu.h"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

static const int64_t COLUMNS = 1024;
static const int64_t TOKENS_AND_ROWS[2][3] = {{1, 48, 96}, {64, 16, 32}};
static const uint8_t WEIGHT_BYTE = 0x22;

static const ggml_type TYPES[] = {
    GGML_TYPE_F32,  GGML_TYPE_F16,    GGML_TYPE_BF16, GGML_TYPE_Q4_0, GGML_TYPE_Q4_1, GGML_TYPE_Q5_0, GGML_TYPE_Q5_1,
    GGML_TYPE_Q8_0, GGML_TYPE_IQ4_NL, GGML_TYPE_Q2_K, GGML_TYPE_Q3_K, GGML_TYPE_Q4_K, GGML_TYPE_Q5_K, GGML_TYPE_Q6_K,
};

static void fail(const char * what) {
    std::fprintf(stderr, "products: %s\n", what);
    std::exit(1);
}

// Names as GGUF files and our side write them: `Q4_K`, not `q4_K`.
static std::string name_of(ggml_type type) {
    std::string name = ggml_type_name(type);
    for (char & letter : name) {
        letter = letter >= 'a' && letter <= 'z' ? letter - 'a' + 'A' : letter;
    }
    return name;
}

// The first buffer type with which the device can multiply: repacked ones before plain memory, as the loader goes.
static ggml_backend_buffer_type_t buffer_type_for(ggml_backend_dev_t device, ggml_tensor * weights, ggml_tensor * product) {
    ggml_backend_reg_t registry = ggml_backend_dev_backend_reg(device);
    auto extra_types = (ggml_backend_dev_get_extra_bufts_t) ggml_backend_reg_get_proc_address(
        registry, "ggml_backend_dev_get_extra_bufts");
    for (ggml_backend_buffer_type_t * type = extra_types ? extra_types(device) : nullptr; type && *type; type++) {
        weights->buffer = ggml_backend_buft_alloc_buffer(*type, 0);
        const bool supported = ggml_backend_dev_supports_op(device, product);
        ggml_backend_buffer_free(weights->buffer);
        weights->buffer = nullptr;
        if (supported) {
            return *type;
        }
    }
    return ggml_backend_dev_buffer_type(device);
}

static void measure(ggml_backend_t backend, ggml_type type, int64_t rows, int64_t tokens) {
    const ggml_init_params params = {ggml_tensor_overhead() * 8 + ggml_graph_overhead(), nullptr, true};
    ggml_context * weights_context = ggml_init(params);
    ggml_context * context = ggml_init(params);
    ggml_tensor * weights = ggml_new_tensor_2d(weights_context, type, COLUMNS, rows);
    ggml_tensor * values = ggml_new_tensor_2d(context, GGML_TYPE_F32, COLUMNS, tokens);
    ggml_tensor * product = ggml_mul_mat(context, weights, values);
    ggml_backend_dev_t device = ggml_backend_get_device(backend);
    ggml_backend_buffer_type_t buffer_type = buffer_type_for(device, weights, product);
    ggml_backend_buffer_t weights_buffer = ggml_backend_alloc_ctx_tensors_from_buft(weights_context, buffer_type);
    ggml_backend_buffer_t buffer = ggml_backend_alloc_ctx_tensors(context, backend);
    if (!weights_buffer || !buffer) {
        fail("there is no memory");
    }

    const std::vector<uint8_t> stored(ggml_nbytes(weights), WEIGHT_BYTE);
    ggml_backend_tensor_set(weights, stored.data(), 0, stored.size());
    std::vector<float> floats(COLUMNS * tokens);
    for (size_t index = 0; index < floats.size(); index++) {
        floats[index] = 1.0f + index % 7;
    }
    ggml_backend_tensor_set(values, floats.data(), 0, floats.size() * sizeof(float));
    ggml_cgraph * graph = ggml_new_graph(context);
    ggml_build_forward_expand(graph, product);

    const std::string name = name_of(type);
    std::fprintf(stderr, "begin %s %d %d %d\n", name.c_str(), (int) COLUMNS, (int) rows, (int) tokens);
    const ggml_status status = ggml_backend_graph_compute(backend, graph);
    std::fprintf(stderr, "end\n");
    if (status != GGML_STATUS_SUCCESS) {
        fail("the product is not computed");
    }
    std::vector<float> out(rows * tokens);
    ggml_backend_tensor_get(product, out.data(), 0, out.size() * sizeof(float));
    double sum = 0;
    for (float value : out) {
        sum += value;
    }
    std::fprintf(stderr, "mean %g\n", sum / out.size());
    ggml_backend_buffer_free(buffer);
    ggml_backend_buffer_free(weights_buffer);
    ggml_free(context);
    ggml_free(weights_context);
}

int main() {
    ggml_backend_t backend = ggml_backend_cpu_init();
    if (!backend) {
        fail("there is no CPU backend");
    }
    ggml_backend_cpu_set_n_threads(backend, 1);
    for (ggml_type type : TYPES) {
        for (const int64_t * shape : TOKENS_AND_ROWS) {
            measure(backend, type, shape[1], shape[0]);
            measure(backend, type, shape[2], shape[0]);
        }
    }
    ggml_backend_free(backend);
    return 0;
}
