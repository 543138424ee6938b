//! The identity of a tokenizer: a digest over everything that decides how text becomes tokens and back.

use sha2::{Digest, Sha256};

use super::vocabulary::{Scheme, Vocabulary};
use crate::digest::Sha256Digest;
use crate::gguf::Texts;

/// SHA-256 over the vocabulary and its `merges`. Each field is preceded by its length, so that no two
/// vocabularies share their bytes.
pub(super) fn sha256(vocabulary: &Vocabulary, merges: Option<&Texts>) -> Sha256Digest {
    let mut hash = CanonicalHash(Sha256::new());
    hash.text("postern tokenizer 1");
    hash.text(match vocabulary.scheme {
        Scheme::ByteLevel => "gpt2",
        Scheme::SentencePiece => "llama",
    });
    hash.text(&vocabulary.pre);
    hash.texts(&vocabulary.tokens.texts);
    hash.numbers(vocabulary.kinds.iter().map(|kind| *kind as u32));
    hash.numbers(vocabulary.scores.iter().map(|score| score.to_bits()));
    hash.texts(merges.unwrap_or(&Texts::default()));
    let special = &vocabulary.special;
    for id in [
        special.bos,
        special.eos,
        special.eot,
        special.unknown,
        special.padding,
    ] {
        hash.numbers(id);
    }
    hash.numbers([special.add_bos, special.add_eos, vocabulary.space_prefix].map(u32::from));
    hash.numbers(special.end_of_generation.iter().copied());
    hash.numbers(vocabulary.swallows_space_after.iter().copied());
    Sha256Digest::from_hasher(hash.0)
}

/// Hashes fields so that their boundaries count.
struct CanonicalHash(Sha256);

impl CanonicalHash {
    fn text(&mut self, text: &str) {
        self.0.update((text.len() as u64).to_le_bytes());
        self.0.update(text);
    }

    fn texts(&mut self, texts: &Texts) {
        self.0.update((texts.len() as u64).to_le_bytes());
        for text in texts.iter() {
            self.text(text);
        }
    }

    fn numbers(&mut self, numbers: impl IntoIterator<Item = u32>) {
        let bytes: Vec<u8> = numbers.into_iter().flat_map(u32::to_le_bytes).collect();
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }
}
