//! GGUF files made in memory: any entries and tensors, and tiny random models of each architecture.
//!
//! The writer checks nothing, so that tests can also make files that are wrong. Weights come from a
//! seed and are the same on every machine.
//!
//! Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>

use half::f16;

/// A metadata value.
#[derive(Debug, Clone)]
pub enum Entry {
    /// `u32`
    U32(u32),
    /// `u64`
    U64(u64),
    /// `f32`
    F32(f32),
    /// `bool`
    Bool(bool),
    /// `string`
    Text(String),
    /// array of `string`
    Texts(Vec<String>),
    /// array of `i32`
    Integers(Vec<i32>),
    /// array of `f32`
    Floats(Vec<f32>),
}

/// How weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// Blocks of 32 signed bytes with a 16-bit scale.
    Q8_0,
}

/// Collects the parts of a GGUF file.
#[derive(Debug, Clone)]
pub struct GgufBuilder {
    entries: Vec<(String, Entry)>,
    tensors: Vec<Tensor>,
}

#[derive(Debug, Clone)]
struct Tensor {
    name: String,
    /// Slowest dimension first.
    shape: Vec<u64>,
    type_id: u32,
    bytes: Vec<u8>,
}

const ALIGNMENT: usize = 32;

impl GgufBuilder {
    /// An empty file.
    pub fn new() -> Self {
        Self {
            entries: Vec::new(),
            tensors: Vec::new(),
        }
    }

    /// Adds a metadata entry, or replaces the one of the same key.
    pub fn entry(&mut self, key: &str, value: Entry) -> &mut Self {
        self.entries.retain(|(existing, _)| existing != key);
        self.entries.push((key.to_owned(), value));
        self
    }

    /// Removes a metadata entry.
    pub fn without_entry(&mut self, key: &str) -> &mut Self {
        self.entries.retain(|(existing, _)| existing != key);
        self
    }

    /// Adds a tensor, slowest dimension first, or replaces the one of the same name.
    pub fn tensor(
        &mut self,
        name: &str,
        shape: &[usize],
        values: &[f32],
        storage: Storage,
    ) -> &mut Self {
        let (type_id, bytes) = stored(values, storage);
        self.raw_tensor(name, shape, type_id, bytes)
    }

    /// Adds a tensor of any type, with its bytes as they are.
    pub fn raw_tensor(
        &mut self,
        name: &str,
        shape: &[usize],
        type_id: u32,
        bytes: Vec<u8>,
    ) -> &mut Self {
        self.without_tensor(name);
        let shape = shape.iter().map(|&dimension| dimension as u64).collect();
        self.tensors.push(Tensor {
            name: name.to_owned(),
            shape,
            type_id,
            bytes,
        });
        self
    }

    /// Removes a tensor.
    pub fn without_tensor(&mut self, name: &str) -> &mut Self {
        self.tensors.retain(|tensor| tensor.name != name);
        self
    }

    /// The bytes of the file, version 3.
    pub fn build(&self) -> Vec<u8> {
        let mut file = Vec::new();
        file.extend_from_slice(b"GGUF");
        file.extend_from_slice(&3_u32.to_le_bytes());
        file.extend_from_slice(&(self.tensors.len() as u64).to_le_bytes());
        file.extend_from_slice(&(self.entries.len() as u64).to_le_bytes());
        for (key, value) in &self.entries {
            write_text(&mut file, key);
            write_entry(&mut file, value);
        }
        let mut offset = 0;
        for tensor in &self.tensors {
            write_text(&mut file, &tensor.name);
            file.extend_from_slice(&(tensor.shape.len() as u32).to_le_bytes());
            for dimension in tensor.shape.iter().rev() {
                file.extend_from_slice(&dimension.to_le_bytes());
            }
            file.extend_from_slice(&tensor.type_id.to_le_bytes());
            file.extend_from_slice(&(offset as u64).to_le_bytes());
            offset += tensor.bytes.len().next_multiple_of(ALIGNMENT);
        }
        for tensor in &self.tensors {
            file.resize(file.len().next_multiple_of(ALIGNMENT), 0);
            file.extend_from_slice(&tensor.bytes);
        }
        file
    }
}

impl Default for GgufBuilder {
    fn default() -> Self {
        Self::new()
    }
}

fn write_text(file: &mut Vec<u8>, text: &str) {
    file.extend_from_slice(&(text.len() as u64).to_le_bytes());
    file.extend_from_slice(text.as_bytes());
}

fn write_entry(file: &mut Vec<u8>, value: &Entry) {
    let mut typed = |type_id: u32, bytes: &[u8]| {
        file.extend_from_slice(&type_id.to_le_bytes());
        file.extend_from_slice(bytes);
    };
    match value {
        Entry::U32(number) => typed(4, &number.to_le_bytes()),
        Entry::U64(number) => typed(10, &number.to_le_bytes()),
        Entry::F32(number) => typed(6, &number.to_le_bytes()),
        Entry::Bool(flag) => typed(7, &[u8::from(*flag)]),
        Entry::Text(text) => {
            typed(8, &[]);
            write_text(file, text);
        }
        Entry::Texts(texts) => {
            typed(9, &array_head(8, texts.len()));
            texts.iter().for_each(|text| write_text(file, text));
        }
        Entry::Integers(numbers) => {
            typed(9, &array_head(5, numbers.len()));
            numbers
                .iter()
                .for_each(|number| file.extend_from_slice(&number.to_le_bytes()));
        }
        Entry::Floats(numbers) => {
            typed(9, &array_head(6, numbers.len()));
            numbers
                .iter()
                .for_each(|number| file.extend_from_slice(&number.to_le_bytes()));
        }
    }
}

fn array_head(element_type: u32, count: usize) -> Vec<u8> {
    let mut head = element_type.to_le_bytes().to_vec();
    head.extend_from_slice(&(count as u64).to_le_bytes());
    head
}

fn stored(values: &[f32], storage: Storage) -> (u32, Vec<u8>) {
    match storage {
        Storage::F32 => (
            0,
            values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect(),
        ),
        Storage::F16 => (
            1,
            values
                .iter()
                .flat_map(|&value| f16::from_f32(value).to_le_bytes())
                .collect(),
        ),
        Storage::Q8_0 => (8, values.chunks(32).flat_map(q8_0_block).collect()),
    }
}

fn q8_0_block(values: &[f32]) -> Vec<u8> {
    let largest = values
        .iter()
        .fold(0.0_f32, |largest, value| largest.max(value.abs()));
    let scale = largest / 127.0;
    let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
    let mut block = f16::from_f32(scale).to_le_bytes().to_vec();
    block.extend(
        values
            .iter()
            .map(|value| (value * inverse).round() as i8 as u8),
    );
    block
}

/// What a tiny model looks like. Start from [`TinyModel::new`] and change what a test is about.
#[derive(Debug, Clone)]
pub struct TinyModel {
    /// `general.architecture`.
    pub architecture: String,
    /// Number of layers.
    pub layers: usize,
    /// Width of the embedding.
    pub width: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_width: usize,
    /// Width of the feed-forward layer.
    pub feed_forward: usize,
    /// Longest context.
    pub context_tokens: usize,
    /// Tokens that a windowed layer sees, where the architecture has such layers.
    pub window_tokens: usize,
    /// How matrices are stored; vectors are always 32-bit floats.
    pub storage: Storage,
    /// Decides about the weights.
    pub seed: u64,
}

/// The text of the token that ends a generation.
const END_TOKEN: &str = "<|im_end|>";
const START_TOKEN: &str = "<|im_start|>";
const MERGES: &[&str] = &["t h", "i n", "Ġ t", "Ġt h", "Ã ¤", "th e"];
const CHAT_TEMPLATE: &str = "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n\
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

impl TinyModel {
    /// A model of `architecture` with widths that all differ, so that a mix-up shows.
    pub fn new(architecture: &str) -> Self {
        let own_head_width = matches!(architecture, "qwen3" | "gemma3");
        Self {
            architecture: architecture.to_owned(),
            layers: if architecture == "gemma3" { 7 } else { 2 },
            width: 64,
            heads: 4,
            kv_heads: 2,
            head_width: if own_head_width { 32 } else { 16 },
            feed_forward: 96,
            context_tokens: 256,
            window_tokens: 8,
            storage: Storage::F32,
            seed: 1,
        }
    }

    /// Number of tokens in the vocabulary: 256 bytes, a few merges, two control tokens.
    pub fn vocabulary(&self) -> usize {
        vocabulary().len()
    }

    /// The bytes of the file.
    pub fn build(&self) -> Vec<u8> {
        self.builder().build()
    }

    /// The parts of the file, to change some before it is built.
    pub fn builder(&self) -> GgufBuilder {
        let mut gguf = GgufBuilder::new();
        self.add_shape(&mut gguf);
        add_vocabulary(&mut gguf);
        self.add_tensors(&mut gguf);
        gguf
    }

    fn add_shape(&self, gguf: &mut GgufBuilder) {
        let prefix = &self.architecture;
        gguf.entry("general.architecture", Entry::Text(prefix.clone()));
        gguf.entry("general.name", Entry::Text(format!("tiny {prefix}")));
        let mut number = |field: &str, value: usize| {
            gguf.entry(&format!("{prefix}.{field}"), Entry::U32(value as u32));
        };
        number("block_count", self.layers);
        number("context_length", self.context_tokens);
        number("embedding_length", self.width);
        number("feed_forward_length", self.feed_forward);
        number("attention.head_count", self.heads);
        number("attention.head_count_kv", self.kv_heads);
        number("rope.dimension_count", self.head_width);
        if self.head_width * self.heads != self.width {
            number("attention.key_length", self.head_width);
            number("attention.value_length", self.head_width);
        }
        if prefix == "gemma3" {
            number("attention.sliding_window", self.window_tokens);
        }
        let base = if prefix == "gemma3" {
            1_000_000.0
        } else {
            10_000.0
        };
        gguf.entry(&format!("{prefix}.rope.freq_base"), Entry::F32(base));
        gguf.entry(
            &format!("{prefix}.attention.layer_norm_rms_epsilon"),
            Entry::F32(1e-5),
        );
    }

    fn add_tensors(&self, gguf: &mut GgufBuilder) {
        let mut random = Random(self.seed);
        let vocabulary = self.vocabulary();
        let (query_width, kv_width) = (
            self.heads * self.head_width,
            self.kv_heads * self.head_width,
        );
        let fused = self.architecture == "phi3";
        let head_norms = matches!(self.architecture.as_str(), "qwen3" | "gemma3");
        let mut add = Adder {
            gguf,
            random: &mut random,
            storage: self.storage,
        };
        add.matrix("token_embd.weight", vocabulary, self.width);
        add.norm("output_norm.weight", self.width);
        if self.architecture != "gemma3" {
            add.matrix("output.weight", vocabulary, self.width);
        }
        for layer in 0..self.layers {
            let name = |part: &str| format!("blk.{layer}.{part}");
            add.norm(&name("attn_norm.weight"), self.width);
            add.norm(&name("ffn_norm.weight"), self.width);
            if fused {
                add.matrix(
                    &name("attn_qkv.weight"),
                    query_width + 2 * kv_width,
                    self.width,
                );
                add.matrix(&name("ffn_up.weight"), 2 * self.feed_forward, self.width);
            } else {
                add.matrix(&name("attn_q.weight"), query_width, self.width);
                add.matrix(&name("attn_k.weight"), kv_width, self.width);
                add.matrix(&name("attn_v.weight"), kv_width, self.width);
                add.matrix(&name("ffn_gate.weight"), self.feed_forward, self.width);
                add.matrix(&name("ffn_up.weight"), self.feed_forward, self.width);
            }
            add.matrix(&name("attn_output.weight"), self.width, query_width);
            add.matrix(&name("ffn_down.weight"), self.width, self.feed_forward);
            if self.architecture == "qwen2" {
                add.bias(&name("attn_q.bias"), query_width);
                add.bias(&name("attn_k.bias"), kv_width);
                add.bias(&name("attn_v.bias"), kv_width);
            }
            if head_norms {
                add.norm(&name("attn_q_norm.weight"), self.head_width);
                add.norm(&name("attn_k_norm.weight"), self.head_width);
            }
            if self.architecture == "gemma3" {
                add.norm(&name("post_attention_norm.weight"), self.width);
                add.norm(&name("post_ffw_norm.weight"), self.width);
            }
        }
    }
}

struct Adder<'a> {
    gguf: &'a mut GgufBuilder,
    random: &'a mut Random,
    storage: Storage,
}

impl Adder<'_> {
    fn matrix(&mut self, name: &str, outputs: usize, inputs: usize) {
        let spread = 1.5 / (inputs as f32).sqrt();
        let values: Vec<f32> = (0..outputs * inputs)
            .map(|_| spread * self.random.centered())
            .collect();
        self.gguf
            .tensor(name, &[outputs, inputs], &values, self.storage);
    }

    fn norm(&mut self, name: &str, length: usize) {
        let values: Vec<f32> = (0..length)
            .map(|_| 1.0 + 0.2 * self.random.centered())
            .collect();
        self.gguf.tensor(name, &[length], &values, Storage::F32);
    }

    fn bias(&mut self, name: &str, length: usize) {
        let values: Vec<f32> = (0..length).map(|_| 0.3 * self.random.centered()).collect();
        self.gguf.tensor(name, &[length], &values, Storage::F32);
    }
}

/// A SplitMix64 generator (<https://prng.di.unimi.it/splitmix64.c>).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// About normal with the spread 1: the sum of four uniform numbers.
    fn centered(&mut self) -> f32 {
        let sum: f32 = (0..4)
            .map(|_| (self.next() >> 40) as f32 / (1_u64 << 24) as f32)
            .sum();
        (sum - 2.0) * 3.0_f32.sqrt()
    }
}

fn add_vocabulary(gguf: &mut GgufBuilder) {
    let tokens = vocabulary();
    let control = |text: &String| text == START_TOKEN || text == END_TOKEN;
    let kinds = tokens
        .iter()
        .map(|text| if control(text) { 3 } else { 1 })
        .collect();
    let end = tokens.len() as u32 - 1;
    gguf.entry("tokenizer.ggml.model", Entry::Text("gpt2".to_owned()));
    gguf.entry("tokenizer.ggml.pre", Entry::Text("gpt-2".to_owned()));
    gguf.entry("tokenizer.ggml.token_type", Entry::Integers(kinds));
    gguf.entry("tokenizer.ggml.eos_token_id", Entry::U32(end));
    gguf.entry("tokenizer.ggml.add_bos_token", Entry::Bool(false));
    gguf.entry(
        "tokenizer.ggml.merges",
        Entry::Texts(MERGES.iter().map(|&merge| merge.to_owned()).collect()),
    );
    gguf.entry("tokenizer.ggml.tokens", Entry::Texts(tokens));
    gguf.entry(
        "tokenizer.chat_template",
        Entry::Text(CHAT_TEMPLATE.to_owned()),
    );
}

/// Byte tokens first, so that a byte's token id is found by its place in [`byte_characters`].
fn vocabulary() -> Vec<String> {
    let bytes = byte_characters().into_iter().map(String::from);
    let merged = MERGES.iter().map(|merge| merge.replace(' ', ""));
    let control = [START_TOKEN, END_TOKEN].map(str::to_owned);
    bytes.chain(merged).chain(control).collect()
}

/// The characters by which byte-level vocabularies write the bytes 0 to 255: printable ones stand for
/// themselves, the others are moved above U+0100 in order.
fn byte_characters() -> Vec<char> {
    let is_printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let mut moved = 0x100..;
    (0..=255_u8)
        .map(|byte| {
            if is_printable(byte) {
                return char::from(byte);
            }
            moved
                .next()
                .and_then(char::from_u32)
                .expect("U+0100 to U+0143 are characters")
        })
        .collect()
}
