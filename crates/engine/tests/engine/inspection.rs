//! The report about a model file.

use postern_engine::{EngineError, Tokenizer, inspect};
use postern_testkit::gguf::{Entry, GgufBuilder, Storage, TinyModel};

use super::write;

#[test]
fn the_report_says_what_the_file_holds() {
    let model = TinyModel {
        storage: Storage::Q8_0,
        ..TinyModel::new("qwen3")
    };
    let folder = tempfile::tempdir().unwrap();
    let report = inspect(&write(folder.path(), "tiny.gguf", &model.build())).unwrap();
    assert_eq!(
        (report.architecture.as_str(), report.name.as_deref()),
        ("qwen3", Some("tiny qwen3"))
    );
    assert_eq!(
        (report.context_length, report.shape["attention.key_length"]),
        (Some(256), 32)
    );
    assert_eq!(
        (report.vocabulary.kind.as_deref(), report.vocabulary.size),
        (Some("gpt2"), model.vocabulary())
    );
    assert_eq!(
        report.vocabulary.special["eos"].text.as_deref(),
        Some("<|im_end|>")
    );
    assert!(report.chat_template);
    assert_eq!((report.backend, report.unsupported), (Some("native"), None));
    let names: Vec<_> = report
        .by_quantization
        .iter()
        .map(|entry| entry.quantization.as_str())
        .collect();
    assert_eq!(names, ["F32", "Q8_0"]);
    assert_eq!(
        report.bytes,
        report
            .tensors
            .iter()
            .map(|tensor| tensor.bytes)
            .sum::<u64>()
    );
    let embedding = &report.tensors[0];
    assert_eq!(
        (
            embedding.name.as_str(),
            &embedding.shape[..],
            embedding.quantization
        ),
        (
            "token_embd.weight",
            &[model.vocabulary() as u64, 64][..],
            "Q8_0"
        )
    );
}

#[test]
fn unknown_architectures_are_reported_not_refused() {
    let file = TinyModel::new("llama")
        .builder()
        .entry("general.architecture", Entry::Text("mamba".to_owned()))
        .build();
    let folder = tempfile::tempdir().unwrap();
    let report = inspect(&write(folder.path(), "tiny.gguf", &file)).unwrap();
    assert_eq!(report.backend, None);
    assert!(report.unsupported.unwrap().contains("\"mamba\""));
}

#[test]
fn a_file_of_a_vocabulary_alone_is_reported_as_such() {
    let file = GgufBuilder::new()
        .entry("general.architecture", Entry::Text("llama".to_owned()))
        .build();
    let folder = tempfile::tempdir().unwrap();
    let report = inspect(&write(folder.path(), "vocabulary.gguf", &file)).unwrap();
    assert_eq!((report.tensors.len(), report.backend), (0, None));
    assert!(report.unsupported.unwrap().contains("no tensors"));
}

#[test]
fn what_is_wrong_in_a_file_is_told_with_its_name() {
    #[track_caller]
    fn check(error: &EngineError, expected: &str) {
        let text = error.to_string();
        assert!(matches!(error, EngineError::ModelUnusable { .. }), "{text}");
        assert!(text.contains("of note.gguf: "), "{text}");
        assert!(text.contains(expected), "{text}");
    }
    let folder = tempfile::tempdir().unwrap();
    let nameless = GgufBuilder::new().build();
    let file = write(folder.path(), "of note.gguf", &nameless);
    check(&inspect(&file).unwrap_err(), "general.architecture");
    check(
        &Tokenizer::from_gguf_file(&file).unwrap_err(),
        "tokenizer.ggml",
    );
    let file = write(folder.path(), "of note.gguf", b"GGUF");
    check(&inspect(&file).unwrap_err(), "ends at 4");
    check(&Tokenizer::from_gguf_file(&file).unwrap_err(), "ends at 4");
}
