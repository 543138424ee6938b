//! Splits text into the words that byte-level BPE merges within.
//!
//! A GGUF file names its pre-tokenizer in `tokenizer.ggml.pre`; each name stands for an ordered list
//! of regular expressions. Every expression splits each piece left by the one before it into its
//! matches and the gaps between them. The names and expressions are those that the published models
//! and the GGUF convention use.
//!
//! The published expressions say `\s+(?!\S)|\s+`: a run of white space before a word leaves its last
//! character to the word. Here `\s+` matches the run and [`Expression`] gives the last character back, so
//! that no expression looks ahead and each runs in linear time on any text.
//!
//! Invariant: the pieces, put one after another, are the text again.
//! Absent: backtracking, and guessing. A name that is not in the table is refused.

use regex::Regex;

use crate::error::{EngineError, Result};

/// One family of pre-tokenizers: the names it goes by, its expressions in order, and whether a word
/// that is itself in the vocabulary is taken without applying merges.
struct Family {
    names: &'static [&'static str],
    patterns: &'static [&'static str],
    ignore_merges: bool,
}

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+";

const LLAMA3: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+"
);

const QWEN2: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+"
);

const QWEN35: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}",
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+"
);

const TEKKEN: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+"
);

const GPT4O: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+"
);

const DEEPSEEK_V3: &str = concat!(
    r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+"##,
    r"|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+"
);

/// Letters of the alphabets with case, as the first DeepSeek models list them.
const DEEPSEEK_LETTERS: &str = concat!(
    r"\s?[\u{41}-\u{5A}\u{61}-\u{7A}\u{B5}\u{C0}-\u{D6}\u{D8}-\u{F6}\u{F8}-\u{1BA}",
    r"\u{1BC}-\u{1BF}\u{1C4}-\u{293}\u{295}-\u{2AF}\u{370}-\u{373}\u{376}\u{377}",
    r"\u{37B}-\u{37D}\u{37F}\u{386}\u{388}-\u{38A}\u{38C}\u{38E}-\u{3A1}",
    r"\u{3A3}-\u{3F5}\u{3F7}-\u{481}\u{48A}-\u{52F}\u{531}-\u{556}\u{10A0}-\u{10C5}",
    r"\u{13A0}-\u{13F5}\u{13F8}-\u{13FD}\u{1C90}-\u{1CBA}\u{1CBD}-\u{1CBF}",
    r"\u{1D00}-\u{1D2B}\u{1D6B}-\u{1D77}\u{1D79}-\u{1D9A}\u{1E00}-\u{1F15}",
    r"\u{1F18}-\u{1F1D}\u{1F20}-\u{1F45}\u{1F48}-\u{1F4D}\u{1F50}-\u{1F57}\u{1F59}",
    r"\u{1F5B}\u{1F5D}\u{1F5F}-\u{1F7D}\u{1F80}-\u{1FB4}\u{1FB6}-\u{1FBC}\u{1FBE}",
    r"\u{1FC2}-\u{1FC4}\u{1FC6}-\u{1FCC}\u{1FD0}-\u{1FD3}\u{1FD6}-\u{1FDB}",
    r"\u{1FE0}-\u{1FEC}\u{1FF2}-\u{1FF4}\u{1FF6}-\u{1FFC}\u{2102}\u{2107}",
    r"\u{210A}-\u{2113}\u{2115}\u{2119}-\u{211D}\u{2124}\u{2126}\u{2128}",
    r"\u{212A}-\u{212D}\u{212F}-\u{2134}\u{2139}\u{213C}-\u{213F}\u{2145}-\u{2149}",
    r"\u{214E}\u{2183}\u{2184}\u{2C00}-\u{2C7B}\u{2C7E}-\u{2CE4}\u{2CEB}-\u{2CEE}",
    r"\u{2CF2}\u{2CF3}\u{A640}-\u{A66D}\u{A680}-\u{A69B}\u{A722}-\u{A76F}",
    r"\u{A771}-\u{A787}\u{A78B}-\u{A78E}\u{AB70}-\u{ABBF}\u{FB00}-\u{FB06}",
    r"\u{FB13}-\u{FB17}\u{FF21}-\u{FF3A}\u{FF41}-\u{FF5A}\u{10400}-\u{1044F}",
    r"\u{104B0}-\u{104D3}\u{104D8}-\u{104FB}\u{10C80}-\u{10CB2}\u{10CC0}-\u{10CF2}",
    r"\u{118A0}-\u{118DF}\u{1E900}-\u{1E943}]+",
);

const DIGIT_GROUPS: &str = r"\p{N}{1,3}";
const SINGLE_DIGITS: &str = r"\p{N}";
const DEEPSEEK_CJK: &str = r"[\u{4E00}-\u{9FA5}\u{0800}-\u{4E00}\u{AC00}-\u{D7FF}]+";
const BLOOM: &str = r" ?[^(\s|.,!?\u{2026}\u{3002}\u{FF0C}\u{3001}\u{964}\u{6D4}\u{60C})]+";

const FAMILIES: &[Family] = &[
    Family {
        names: &[
            "gpt-2",
            "gpt2",
            "phi-2",
            "mpt",
            "olmo",
            "jais",
            "trillion",
            "granite-docling",
            "gigachat",
            "mellum",
            "modern-bert",
            "exaone4",
            "a.x-4.0",
        ],
        patterns: &[GPT2],
        ignore_merges: false,
    },
    Family {
        names: &[
            "llama-bpe",
            "llama3",
            "llama-v3",
            "falcon3",
            "falcon-h1",
            "pixtral",
            "midm-2.0",
            "lfm2",
        ],
        patterns: &[LLAMA3],
        ignore_merges: true,
    },
    Family {
        names: &["dbrx", "smaug-bpe", "chatglm-bpe", "glm4"],
        patterns: &[LLAMA3],
        ignore_merges: false,
    },
    Family {
        names: &[
            "qwen2",
            "deepseek-r1-qwen",
            "stablelm2",
            "hunyuan",
            "megrez",
            "solar-open",
            "kormo",
            "grok-2",
        ],
        patterns: &[QWEN2],
        ignore_merges: false,
    },
    Family {
        names: &["qwen35"],
        patterns: &[QWEN35],
        ignore_merges: false,
    },
    Family {
        names: &[
            "smollm",
            "starcoder",
            "refact",
            "command-r",
            "codeshell",
            "exaone",
            "minerva-7b",
            "mellum2",
        ],
        patterns: &[SINGLE_DIGITS, GPT2],
        ignore_merges: false,
    },
    Family {
        names: &["deepseek-llm"],
        patterns: &[
            r"[\r\n]",
            DEEPSEEK_LETTERS,
            r"\s?[!-/:-~\u{FF01}-\u{FF0F}\u{FF1A}-\u{FF5E}\u{2018}-\u{201F}\u{3000}-\u{3002}]+",
            r"\s+$",
            DEEPSEEK_CJK,
            r"\p{N}+",
        ],
        ignore_merges: false,
    },
    Family {
        names: &["deepseek-coder"],
        patterns: &[
            r"[\r\n]",
            r"\s?\p{L}+",
            r"\s?\p{P}+",
            DEEPSEEK_CJK,
            SINGLE_DIGITS,
        ],
        ignore_merges: false,
    },
    Family {
        names: &["deepseek-v3", "hunyuan-dense", "joyai-llm"],
        patterns: &[
            DIGIT_GROUPS,
            r"[\u{4E00}-\u{9FA5}\u{3040}-\u{309F}\u{30A0}-\u{30FF}]+",
            DEEPSEEK_V3,
        ],
        ignore_merges: false,
    },
    Family {
        names: &["default"],
        patterns: &[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"],
        ignore_merges: false,
    },
    Family {
        names: &["falcon"],
        patterns: &[r"[\p{P}\$\+<=>\^~\|`]+", GPT2, r"[0-9][0-9][0-9]"],
        ignore_merges: false,
    },
    Family {
        names: &["tekken"],
        patterns: &[TEKKEN],
        ignore_merges: true,
    },
    Family {
        names: &["gpt-4o", "llama4", "kanana2", "minimax-m2"],
        patterns: &[GPT4O],
        ignore_merges: false,
    },
    Family {
        names: &["bloom", "gpt3-finnish", "poro-chat"],
        patterns: &[BLOOM],
        ignore_merges: false,
    },
    Family {
        names: &["viking"],
        patterns: &[BLOOM, SINGLE_DIGITS],
        ignore_merges: false,
    },
    Family {
        names: &["seed-coder"],
        patterns: &[concat!(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}",
            r"| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+"
        )],
        ignore_merges: false,
    },
];

/// The compiled pre-tokenizer of one model.
pub(super) struct PreTokenizer {
    expressions: Vec<Expression>,
    ignore_merges: bool,
}

impl PreTokenizer {
    /// Compiles the pre-tokenizer that goes by `name`.
    ///
    /// # Errors
    /// [`EngineError::UnknownPreTokenizer`] with all known names when `name` is not one of them.
    pub(super) fn named(name: &str) -> Result<Self> {
        let family = FAMILIES
            .iter()
            .find(|family| family.names.contains(&name))
            .ok_or_else(|| EngineError::UnknownPreTokenizer {
                name: name.to_owned(),
                known: known_names().join(", "),
            })?;
        Ok(Self {
            expressions: family
                .patterns
                .iter()
                .map(|pattern| Expression::new(pattern))
                .collect(),
            ignore_merges: family.ignore_merges,
        })
    }

    /// Whether a word that is in the vocabulary as a whole becomes that token without merging.
    pub(super) fn ignore_merges(&self) -> bool {
        self.ignore_merges
    }

    /// Splits `text` into words, in order and without loss.
    pub(super) fn split<'a>(&self, text: &'a str) -> Vec<&'a str> {
        let mut pieces = vec![text];
        for expression in &self.expressions {
            let mut finer = Vec::with_capacity(pieces.len() * 2);
            for piece in pieces {
                expression.split(piece, &mut finer);
            }
            pieces = finer;
        }
        pieces
    }
}

/// One regular expression with the rule for white space before words.
struct Expression {
    regex: Regex,
    /// A run of white space leaves its last character to the word after it.
    leaves_last_space: bool,
    /// Unless the run ends a line.
    keeps_line_ends: bool,
}

impl Expression {
    fn new(pattern: &str) -> Self {
        Self {
            regex: Regex::new(pattern)
                .expect("the expressions of the table are valid, as a test shows"),
            leaves_last_space: pattern.ends_with(r"|\s+"),
            keeps_line_ends: pattern.contains(r"\s*[\r\n]+"),
        }
    }

    /// Appends the matches within `piece` and the gaps between them to `out`.
    fn split<'a>(&self, piece: &'a str, out: &mut Vec<&'a str>) {
        let mut done = 0;
        while let Some(found) = self.regex.find_at(piece, done) {
            let end = self.end(piece, found.as_str(), found.end());
            out.extend(
                [&piece[done..found.start()], &piece[found.start()..end]]
                    .iter()
                    .filter(|part| !part.is_empty()),
            );
            done = end;
        }
        if done < piece.len() {
            out.push(&piece[done..]);
        }
    }

    /// Where a match that ends at `end` is to end.
    fn end(&self, piece: &str, matched: &str, end: usize) -> usize {
        let gives_back = self.leaves_last_space
            && end < piece.len()
            && !(self.keeps_line_ends && matched.ends_with(['\r', '\n']))
            && matched.chars().all(char::is_whitespace);
        match matched.chars().next_back() {
            Some(last) if gives_back && last.len_utf8() < matched.len() => end - last.len_utf8(),
            _ => end,
        }
    }
}

/// All names that [`PreTokenizer::named`] accepts, sorted.
fn known_names() -> Vec<&'static str> {
    let mut names: Vec<_> = FAMILIES
        .iter()
        .flat_map(|family| family.names)
        .copied()
        .collect();
    names.sort_unstable();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, text: &str, expected: &[&str]) {
        let splitter = PreTokenizer::named(name).expect(name);
        assert_eq!(splitter.split(text), expected, "{name}: {text:?}");
    }

    #[test]
    fn every_known_name_compiles_and_loses_nothing() {
        let text = "I'm  HelloWorld 12345\r\n\r\n  日本語かな — ¿qué? \t\u{1F999}e\u{301}x  ";
        for name in known_names() {
            let splitter = PreTokenizer::named(name).expect(name);
            assert_eq!(splitter.split(text).concat(), text, "{name}");
        }
    }

    #[test]
    fn families_differ_where_the_models_do() {
        check("gpt-2", "it's 1234  x", &["it", "'s", " 1234", " ", " x"]);
        check(
            "llama-bpe",
            "it'S 1234  x",
            &["it", "'S", " ", "123", "4", " ", " x"],
        );
        check("qwen2", " 12\n\n a", &[" ", "1", "2", "\n\n", " a"]);
        check("smollm", "a 12", &["a", " ", "1", "2"]);
        check("deepseek-llm", "a 12 \n", &["a", " ", "12", " ", "\n"]);
        check(
            "deepseek-coder",
            "def f(12)",
            &["def", " f", "(", "1", "2", ")"],
        );
        check("deepseek-v3", "x=1234;", &["x", "=", "123", "4", ";"]);
        check("tekken", "HelloWorld/\n", &["Hello", "World", "/\n"]);
        check("gpt-4o", "it's OK", &["it's", " OK"]);
        check("falcon", "a$b 1234", &["a", "$", "b", " ", "123", "4"]);
        check("default", "12345", &["123", "45"]);
        check("gpt-2", "a\n\n b  ", &["a", "\n\n", " b", "  "]);
        check("gpt-2", "a\n\nb", &["a", "\n", "\n", "b"]);
        check("llama-bpe", "a \n\n  b", &["a", " \n\n", " ", " b"]);
        check("qwen35", "ne\u{301}e", &["ne\u{301}e"]);
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_known() {
        let error = PreTokenizer::named("novel-bpe")
            .err()
            .expect("refused")
            .to_string();
        assert!(
            error.contains("novel-bpe") && error.contains("llama-bpe"),
            "{error}"
        );
    }
}
