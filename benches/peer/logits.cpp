// Prints the logits that llama.cpp computes for given tokens, as 32-bit floats in the machine's order.
//
// usage: logits MODEL THREADS PROMPT_COUNT < token ids
//
// The first PROMPT_COUNT tokens are one batch, the others follow one by one; each of these steps prints one row.

#include "llama.h"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

static int fail(const char * what) {
    std::fprintf(stderr, "logits: %s\n", what);
    return 1;
}

int main(int argc, char ** argv) {
    if (argc != 4) {
        return fail("usage: logits MODEL THREADS PROMPT_COUNT < token ids");
    }
    const int threads = std::atoi(argv[2]);
    const size_t prompt_count = std::strtoul(argv[3], nullptr, 10);
    std::vector<llama_token> tokens;
    for (int id; std::scanf("%d", &id) == 1;) {
        tokens.push_back(id);
    }
    if (prompt_count == 0 || prompt_count > tokens.size()) {
        return fail("the prompt is longer than the tokens, or empty");
    }

    llama_log_set([](ggml_log_level, const char *, void *) {}, nullptr);
    llama_backend_init();
    llama_model_params model_params = llama_model_default_params();
    model_params.n_gpu_layers = 0;
    llama_model * model = llama_model_load_from_file(argv[1], model_params);
    if (!model) {
        return fail("the model cannot be loaded");
    }
    llama_context_params params = llama_context_default_params();
    params.n_ctx = tokens.size() + 1;
    params.n_threads = threads;
    params.n_threads_batch = threads;
    llama_context * context = llama_init_from_model(model, params);
    if (!context) {
        return fail("no context can be made");
    }

    const size_t vocabulary = llama_vocab_n_tokens(llama_model_get_vocab(model));
    for (size_t done = 0; done < tokens.size();) {
        const size_t count = done == 0 ? prompt_count : 1;
        if (llama_decode(context, llama_batch_get_one(tokens.data() + done, count)) != 0) {
            return fail("decoding failed");
        }
        const float * row = llama_get_logits_ith(context, -1);
        if (!row || std::fwrite(row, sizeof(float), vocabulary, stdout) != vocabulary) {
            return fail("there are no logits, or nobody reads them");
        }
        done += count;
    }
    llama_free(context);
    llama_model_free(model);
    return 0;
}
