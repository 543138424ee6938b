//! How far one model's predictions lie from another's.
//!
//! Invariant: sums run in 64 bits over log-probabilities, so that divergences near zero are not lost in rounding.
//! Absent: where logits come from.

/// Mean Kullback-Leibler divergence and agreement over several predictions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Divergence {
    /// Mean of KL(reference || other), in nats.
    pub(crate) mean_kl: f64,
    /// Share of predictions whose likeliest token is the same.
    pub(crate) top_1: f64,
}

/// Compares predictions of `vocabulary` logits each, which stand one after another.
pub(crate) fn divergence(reference: &[f32], other: &[f32], vocabulary: usize) -> Divergence {
    let (mut kl, mut agreed, mut count) = (0.0, 0_u32, 0_u32);
    for (reference, other) in reference
        .chunks_exact(vocabulary)
        .zip(other.chunks_exact(vocabulary))
    {
        kl += kullback_leibler(reference, other);
        agreed += u32::from(likeliest(reference) == likeliest(other));
        count += 1;
    }
    Divergence {
        mean_kl: kl / f64::from(count),
        top_1: f64::from(agreed) / f64::from(count),
    }
}

fn kullback_leibler(reference: &[f32], other: &[f32]) -> f64 {
    let (a, b) = (log_sum_exp(reference), log_sum_exp(other));
    reference
        .iter()
        .zip(other)
        .map(|(&p, &q)| {
            let (log_p, log_q) = (f64::from(p) - a, f64::from(q) - b);
            log_p.exp() * (log_p - log_q)
        })
        .sum()
}

fn log_sum_exp(logits: &[f32]) -> f64 {
    let most = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = logits
        .iter()
        .map(|&logit| (f64::from(logit) - most).exp())
        .sum();
    most + sum.ln()
}

fn likeliest(logits: &[f32]) -> Option<usize> {
    (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shifted_logits_are_the_same_prediction() {
        let found = divergence(&[1.0, 2.0, 3.0], &[101.0, 102.0, 103.0], 3);
        assert!(found.mean_kl.abs() < 1e-12, "{found:?}");
        assert!((found.top_1 - 1.0).abs() < f64::EPSILON);
    }

    #[test]
    fn the_divergence_of_two_coins_is_what_the_formula_says() {
        // A fair coin against one that shows heads three times in four: ln 2 - ln 3 / 2.
        let fair = [0.0, 0.0];
        let loaded = [3.0_f32.ln(), 0.0];
        let found = divergence(&fair, &loaded, 2).mean_kl;
        assert!(
            (found - (2.0_f64.ln() - 3.0_f64.ln() / 2.0)).abs() < 1e-6,
            "{found}"
        );
    }

    #[test]
    fn agreement_counts_predictions() {
        let found = divergence(&[0.0, 1.0, 0.0, 1.0], &[0.0, 2.0, 3.0, 1.0], 2);
        assert!((found.top_1 - 0.5).abs() < f64::EPSILON);
    }
}
