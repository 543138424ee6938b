//! Text that looks like a special token, made into plain text.
//!
//! The engine never makes a special token of a message's text, whatever its vocabulary. But a
//! model has read about the tokens of other families too, and may obey their spelling. So a space
//! goes behind the first character of each: `<|im_start|>` becomes `< |im_start|>`. People and
//! models can still read what was written; nothing is lost, and nothing invisible is added.
//!
//! Invariants: only spaces are added; the result holds no such spelling any more; doing it twice
//! is doing it once; time is linear in the text.
//!
//! Absent: the vocabulary in use, which only the engine knows.

use std::borrow::Cow;

use memchr::memchr2_iter;

/// Longest spelling that is looked for, in bytes.
const SPELLING_BYTES_MAX: usize = 96;

/// Names between `<` and `>` of Llama 2, Gemma, Mistral, Qwen and code models; without case.
const ANGLE_NAMES: [&str; 26] = [
    "s",
    "unk",
    "pad",
    "bos",
    "eos",
    "mask",
    "sep",
    "cls",
    "think",
    "tool_call",
    "tool_response",
    "tools",
    "start_of_turn",
    "end_of_turn",
    "start_of_image",
    "end_of_image",
    "start_function_call",
    "end_function_call",
    "end_of_utterance",
    "fim_prefix",
    "fim_middle",
    "fim_suffix",
    "fim_pad",
    "file_sep",
    "repo_name",
    "endoftext",
];

/// Names between `[` and `]` of Mistral and of BERT's family; without case.
const BRACKET_NAMES: [&str; 23] = [
    "inst",
    "sys",
    "system_prompt",
    "available_tools",
    "tool_calls",
    "tool_results",
    "tool_content",
    "call_id",
    "args",
    "prefix",
    "middle",
    "suffix",
    "img",
    "img_break",
    "img_end",
    "audio",
    "begin_audio",
    "think",
    "pad",
    "unk",
    "cls",
    "sep",
    "mask",
];

/// The text with a space inside of each such spelling.
pub(crate) fn neutralize(text: &str) -> Cow<'_, str> {
    let mut plain = String::new();
    let mut copied = 0;
    for at in memchr2_iter(b'<', b'[', text.as_bytes()) {
        if is_special(&text[at..]) {
            plain.push_str(&text[copied..=at]);
            plain.push(' ');
            copied = at + 1;
        }
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    plain.push_str(&text[copied..]);
    Cow::Owned(plain)
}

/// Whether the text begins with the spelling of a special token.
fn is_special(text: &str) -> bool {
    if let Some(rest) = text.strip_prefix("<|") {
        return ends_with_bar(rest, "|>");
    }
    if let Some(rest) = text.strip_prefix("<｜") {
        return ends_with_bar(rest, "｜>");
    }
    if let Some(rest) = text.strip_prefix("<<") {
        return is_one_of(rest, ">>", &["sys"]);
    }
    if let Some(rest) = text.strip_prefix('<') {
        return is_one_of(rest, ">", &ANGLE_NAMES) || is_numbered(rest, ">", "unused");
    }
    match text.strip_prefix('[') {
        Some(rest) => {
            is_one_of(rest, "]", &BRACKET_NAMES)
                || is_numbered(rest, "]", "pad")
                || is_numbered(rest, "]", "unused")
        }
        None => false,
    }
}

/// Whether a name without white space, brackets and bars comes before `close`.
fn ends_with_bar(rest: &str, close: &str) -> bool {
    let outside = |c: char| c.is_whitespace() || matches!(c, '<' | '>' | '|' | '｜' | '[' | ']');
    match rest.find(outside) {
        Some(end) => (1..=SPELLING_BYTES_MAX).contains(&end) && rest[end..].starts_with(close),
        None => false,
    }
}

/// Whether one of the names, perhaps behind a `/`, comes before `close`.
fn is_one_of(rest: &str, close: &str, names: &[&str]) -> bool {
    let rest = rest.strip_prefix('/').unwrap_or(rest);
    let is_name = |c: char| c.is_ascii_alphabetic() || c == '_';
    let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
    rest[end..].starts_with(close)
        && names
            .iter()
            .any(|name| name.eq_ignore_ascii_case(&rest[..end]))
}

/// Whether it goes on as `unused12>`: reserved tokens of Gemma and BERT, and `[PAD12]`, by which
/// vocabularies are filled up.
fn is_numbered(rest: &str, close: &str, name: &str) -> bool {
    let head = rest.get(..name.len());
    if !head.is_some_and(|head| head.eq_ignore_ascii_case(name)) {
        return false;
    }
    let rest = &rest[name.len()..];
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    digits > 0 && rest[digits..].starts_with(close)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn spellings_of_all_families_get_a_space() {
        for spelling in [
            "<|im_start|>",
            "<|endoftext|>",
            "<|start_header_id|>",
            "<|eot_id|>",
            "<｜begin▁of▁sentence｜>",
            "<|END_OF_TURN_TOKEN|>",
            "[INST]",
            "[/INST]",
            "[inst]",
            "[AVAILABLE_TOOLS]",
            "<<SYS>>",
            "<</SYS>>",
            "<s>",
            "</s>",
            "<start_of_turn>",
            "<end_of_turn>",
            "<unused99>",
            "[PAD32011]",
            "[unused1]",
            "</think>",
            "<tool_call>",
            "<fim_prefix>",
        ] {
            let plain = neutralize(spelling);
            let expected = format!("{} {}", &spelling[..1], &spelling[1..]);
            assert_eq!(plain, expected);
            assert_eq!(
                neutralize(&format!("a{spelling}b")),
                format!("a{expected}b")
            );
        }
    }

    #[test]
    fn other_text_stays_as_it_is() {
        for text in [
            "",
            "a <| b |> c",
            "list |> Enum.map(&f) <| x",
            "Vec<String>",
            "x[i][j]",
            "<div class=\"s\">",
            "<span>",
            "[INSTALL]",
            "[ INST ]",
            "<|",
            "<||>",
            "<unused>",
            "#[test]",
            "<｜",
        ] {
            assert!(
                matches!(neutralize(text), Cow::Borrowed(same) if same == text),
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn the_result_holds_none_and_only_spaces_were_added(
            parts in proptest::collection::vec(
                prop_oneof![
                    Just("<|".to_owned()), Just("|>".to_owned()), Just("[INST]".to_owned()), Just("<s>".to_owned()),
                    Just("<".to_owned()), Just("[".to_owned()), Just("im_start".to_owned()), Just("｜".to_owned()),
                    Just("<|a|>".to_owned()), "\\PC{0,3}",
                ],
                0..12,
            )
        ) {
            let text = parts.concat();
            let plain = neutralize(&text).into_owned();
            prop_assert_eq!(neutralize(&plain), plain.as_str());
            prop_assert_eq!(plain.replace(' ', ""), text.replace(' ', ""));
        }
    }
}
