//! Logits of given tokens: the same side by side as alone, and refused where there is no room.

use postern_engine::{EngineConfig, EngineError, ForcedTokens, Result, forced_logits};
use postern_testkit::gguf::TinyModel;

use super::{load, write};

const LONG: ForcedTokens<'_> = ForcedTokens {
    prompt: &[65, 12, 200],
    next: &[7, 99, 131, 3],
};
const SHORT: ForcedTokens<'_> = ForcedTokens {
    prompt: &[5],
    next: &[64, 77],
};

/// What was shown of each sequence, in order.
fn shown(config: &EngineConfig, sequences: &[ForcedTokens<'_>]) -> Result<Vec<Vec<Vec<f32>>>> {
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), "tiny.gguf", &TinyModel::new("qwen2").build());
    let mut shown = vec![Vec::new(); sequences.len()];
    forced_logits(load(&file)?, config, sequences, &mut |sequence, logits| {
        shown[sequence].push(logits.to_vec());
    })?;
    Ok(shown)
}

#[test]
fn sequences_side_by_side_have_the_logits_that_each_has_alone() {
    let config = EngineConfig::default();
    let together = shown(&config, &[SHORT, LONG, SHORT]).unwrap();
    for (sequence, found) in [SHORT, LONG, SHORT].into_iter().zip(together) {
        assert_eq!(found.len(), 1 + sequence.next.len());
        assert_eq!(vec![found], shown(&config, &[sequence]).unwrap());
    }
}

#[test]
fn what_there_is_no_room_for_is_refused() {
    let config = EngineConfig {
        sequences_max: 1,
        ..EngineConfig::default()
    };
    let outcome = shown(&config, &[SHORT, LONG]);
    assert!(
        matches!(&outcome, Err(EngineError::ParameterInvalid { parameter, .. }) if *parameter == "sequences"),
        "{outcome:?}"
    );
    let empty = ForcedTokens {
        prompt: &[],
        ..SHORT
    };
    let outcome = shown(&config, &[empty]);
    assert!(
        matches!(outcome, Err(EngineError::PromptEmpty)),
        "{outcome:?}"
    );
    let endless = ForcedTokens {
        next: &[7; 256],
        ..SHORT
    };
    let outcome = shown(&config, &[endless]);
    assert!(
        matches!(outcome, Err(EngineError::ContextOverflow { .. })),
        "{outcome:?}"
    );
}
