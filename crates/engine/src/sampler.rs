//! Choosing the next token from logits.
//!
//! Invariants: the same seed and the same logits give the same tokens on every machine; a logit
//! that is not a number or infinite is an error, never a token; a token outside of a mask is never chosen. Buffers
//! are reused, so choosing allocates nothing after the first token.
//!
//! Order: repetition penalty, mask, temperature, top-k, top-p, min-p. Top-p is nucleus sampling
//! (arXiv:1904.09751), min-p is arXiv:2407.01082, the penalty is that of CTRL (arXiv:1909.05858).

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::constraint::TokenMask;
use crate::error::{EngineError, Result};
use crate::job::Sampling;

/// Latest tokens, prompt included, that the repetition penalty looks at.
const REPETITION_WINDOW_TOKENS: usize = 64;
const TEMPERATURE_MAX: f32 = 10.0;
const REPETITION_PENALTY_MAX: f32 = 10.0;
/// Logits this far below the largest are passed over when probabilities are measured: 150,000 of them weigh less than one
/// two-thousandth of the largest.
const LOGIT_GAP_MAX: f32 = 20.0;

/// Chooses tokens for one sequence.
#[derive(Debug)]
pub(crate) struct Sampler {
    sampling: Sampling,
    random: ChaCha12Rng,
    /// Tokens to take instead, in their order.
    script: std::vec::IntoIter<u32>,
    candidates: Vec<Candidate>,
    penalized: Vec<u32>,
    /// Sum of the probabilities of the tokens that were chosen, and how many those are.
    measured: (f64, u32),
}

#[derive(Debug, Clone, Copy)]
struct Candidate {
    id: u32,
    /// First the logit, then the weight relative to the likeliest (which has 1).
    weight: f32,
}

impl Sampler {
    /// # Errors
    /// [`EngineError::ParameterInvalid`] naming the parameter.
    pub(crate) fn new(sampling: Sampling) -> Result<Self> {
        check(&sampling)?;
        let random = ChaCha12Rng::seed_from_u64(sampling.seed);
        Ok(Self {
            sampling,
            random,
            script: Vec::new().into_iter(),
            candidates: Vec::new(),
            penalized: Vec::new(),
            measured: (0.0, 0),
        })
    }

    /// Takes the tokens of `script` first, then the likeliest.
    pub(crate) fn scripted(script: Vec<u32>) -> Self {
        Self {
            script: script.into_iter(),
            ..Self::new(Sampling::greedy()).expect("greedy sampling is within all bounds")
        }
    }

    /// Chooses a token after `history`, one of `allowed` where that is given: they are all there is to the filters.
    /// The logits are changed where the penalty applies.
    ///
    /// # Errors
    /// [`EngineError::NonFiniteLogits`].
    pub(crate) fn choose(
        &mut self,
        logits: &mut [f32],
        history: &[u32],
        allowed: Option<&TokenMask>,
    ) -> Result<u32> {
        if let Some(token) = logits.iter().position(|logit| !logit.is_finite()) {
            return Err(EngineError::NonFiniteLogits { token });
        }
        if let Some(token) = self.script.next() {
            return Ok(token);
        }
        self.penalize(logits, history);
        let token = self.pick(logits, allowed);
        if self.sampling.measures_probability {
            self.measured.0 += probability(logits, token);
            self.measured.1 += 1;
        }
        Ok(token)
    }

    /// The mean of what the model gave to the tokens that were chosen; see [`crate::Finished::mean_probability`].
    pub(crate) fn mean_probability(&self) -> Option<f32> {
        let (sum, count) = self.measured;
        (count > 0).then(|| (sum / f64::from(count)) as f32)
    }

    fn pick(&mut self, logits: &[f32], allowed: Option<&TokenMask>) -> u32 {
        if self.sampling.temperature == 0.0 {
            return likeliest(logits, allowed);
        }
        self.gather(logits, allowed);
        self.keep_top_k();
        self.weigh();
        self.keep_top_p();
        self.keep_min_p();
        self.draw()
    }

    fn penalize(&mut self, logits: &mut [f32], history: &[u32]) {
        let Some(penalty) = self.sampling.repetition_penalty else {
            return;
        };
        self.penalized.clear();
        self.penalized
            .extend_from_slice(&history[history.len().saturating_sub(REPETITION_WINDOW_TOKENS)..]);
        self.penalized.sort_unstable();
        self.penalized.dedup();
        for &id in &self.penalized {
            if let Some(logit) = logits.get_mut(id as usize) {
                *logit = if *logit > 0.0 {
                    *logit / penalty
                } else {
                    *logit * penalty
                };
            }
        }
    }

    fn gather(&mut self, logits: &[f32], allowed: Option<&TokenMask>) {
        let temperature = self.sampling.temperature;
        self.candidates.clear();
        let candidates = (0..).zip(logits).map(|(id, logit)| Candidate {
            id,
            weight: logit / temperature,
        });
        match allowed {
            None => self.candidates.extend(candidates),
            Some(mask) => self
                .candidates
                .extend(candidates.filter(|candidate| mask.allows(candidate.id))),
        }
    }

    fn keep_top_k(&mut self) {
        if let Some(k) = self.sampling.top_k
            && k < self.candidates.len()
        {
            self.candidates
                .select_nth_unstable_by(k - 1, likelier_first);
            self.candidates.truncate(k);
        }
        // Any order would do for what follows, but it has to be the same one every time.
        if self.sampling.top_k.is_some() || self.sampling.top_p.is_some() {
            self.candidates.sort_unstable_by(likelier_first);
        }
    }

    /// Turns logits into weights relative to the likeliest.
    fn weigh(&mut self) {
        let top = self
            .candidates
            .iter()
            .fold(f32::NEG_INFINITY, |top, candidate| {
                top.max(candidate.weight)
            });
        for candidate in &mut self.candidates {
            candidate.weight = (candidate.weight - top).exp();
        }
    }

    fn keep_top_p(&mut self) {
        let Some(top_p) = self.sampling.top_p else {
            return;
        };
        let enough = self.total() * f64::from(top_p);
        let mut sum = 0.0;
        let kept = self.candidates.iter().position(|candidate| {
            sum += f64::from(candidate.weight);
            sum >= enough
        });
        if let Some(last) = kept {
            self.candidates.truncate(last + 1);
        }
    }

    fn keep_min_p(&mut self) {
        if let Some(min_p) = self.sampling.min_p {
            self.candidates
                .retain(|candidate| candidate.weight >= min_p);
        }
    }

    fn draw(&mut self) -> u32 {
        // 53 random bits, the precision of f64, as a number in [0, 1).
        let uniform = (self.random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
        let mut left = uniform * self.total();
        for candidate in &self.candidates {
            left -= f64::from(candidate.weight);
            if left < 0.0 {
                return candidate.id;
            }
        }
        // Rounding may leave a rest; it belongs to the last one that can be drawn.
        let possible = self
            .candidates
            .iter()
            .rfind(|candidate| candidate.weight > 0.0);
        possible
            .expect("the likeliest token has the weight 1 and is never filtered")
            .id
    }

    fn total(&self) -> f64 {
        self.candidates
            .iter()
            .map(|candidate| f64::from(candidate.weight))
            .sum()
    }
}

/// What the softmax of the logits gives to a token.
fn probability(logits: &[f32], token: u32) -> f64 {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let near = logits.iter().filter(|logit| top - **logit < LOGIT_GAP_MAX);
    let total: f64 = near.map(|logit| f64::from((logit - top).exp())).sum();
    f64::from((logits[token as usize] - top).exp()) / total
}

/// The token with the largest logit of those that are allowed, the lowest id among equals.
fn likeliest(logits: &[f32], allowed: Option<&TokenMask>) -> u32 {
    let (mut best, mut largest) = (0, f32::NEG_INFINITY);
    let (whole, rest) = logits.as_chunks::<8>();
    let mut last = [f32::NEG_INFINITY; 8];
    last[..rest.len()].copy_from_slice(rest);
    for (index, eight) in whole.iter().chain([&last]).enumerate() {
        let octet = allowed.map_or(u8::MAX, |mask| mask.octet(index));
        let mut masked = *eight;
        let mut is_larger = false;
        for (logit, offset) in masked.iter_mut().zip(&MASK_OFFSETS[usize::from(octet)]) {
            *logit += offset;
            is_larger |= *logit > largest;
        }
        if is_larger {
            for (place, logit) in masked.into_iter().enumerate() {
                if logit > largest {
                    (best, largest) = (index * 8 + place, logit);
                }
            }
        }
    }
    best as u32
}

/// What is added to eight logits for each octet of a mask: nothing where the bit is set, and what makes a logit smaller
/// than all others where it is not. Without branches, a pass over a large vocabulary takes tens of microseconds.
static MASK_OFFSETS: [[f32; 8]; 256] = {
    let mut offsets = [[0.0; 8]; 256];
    let mut octet = 0;
    while octet < 256 {
        let mut bit = 0;
        while bit < 8 {
            if octet >> bit & 1 == 0 {
                offsets[octet][bit] = f32::NEG_INFINITY;
            }
            bit += 1;
        }
        octet += 1;
    }
    offsets
};

fn likelier_first(a: &Candidate, b: &Candidate) -> std::cmp::Ordering {
    b.weight.total_cmp(&a.weight).then(a.id.cmp(&b.id))
}

fn check(sampling: &Sampling) -> Result<()> {
    let within = |parameter, found: f32, min: f32, max: f32| {
        if (min..=max).contains(&found) {
            return Ok(());
        }
        Err(invalid(parameter, &found, &format!("from {min} to {max}")))
    };
    within("temperature", sampling.temperature, 0.0, TEMPERATURE_MAX)?;
    if sampling.top_k == Some(0) {
        return Err(invalid("top_k", &0, "at least 1"));
    }
    if let Some(top_p) = sampling.top_p {
        within("top_p", top_p, f32::MIN_POSITIVE, 1.0)?;
    }
    if let Some(min_p) = sampling.min_p {
        within("min_p", min_p, 0.0, 1.0)?;
    }
    if let Some(penalty) = sampling.repetition_penalty {
        within("repetition_penalty", penalty, 1.0, REPETITION_PENALTY_MAX)?;
    }
    Ok(())
}

fn invalid(parameter: &'static str, found: &dyn ToString, expected: &str) -> EngineError {
    EngineError::ParameterInvalid {
        parameter,
        found: found.to_string(),
        expected: expected.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose_many(sampling: &Sampling, logits: &[f32], count: usize) -> Vec<u32> {
        let mut sampler = Sampler::new(sampling.clone()).unwrap();
        (0..count)
            .map(|_| sampler.choose(&mut logits.to_vec(), &[], None).unwrap())
            .collect()
    }

    fn warm() -> Sampling {
        Sampling {
            temperature: 1.0,
            seed: 7,
            ..Sampling::greedy()
        }
    }

    #[test]
    fn greedy_takes_the_first_of_the_largest() {
        assert_eq!(
            choose_many(&Sampling::greedy(), &[1.0, 3.0, 3.0, -2.0], 3),
            [1, 1, 1]
        );
    }

    #[test]
    fn filters_leave_only_what_they_allow() {
        let logits = [0.0, 4.0, 2.0, 3.9, 1.0];
        let cases: [(&str, Sampling, &[u32]); 5] = [
            (
                "top-k 2",
                Sampling {
                    top_k: Some(2),
                    ..warm()
                },
                &[1, 3],
            ),
            (
                "top-k beyond the vocabulary",
                Sampling {
                    top_k: Some(99),
                    ..warm()
                },
                &[0, 1, 2, 3, 4],
            ),
            (
                "top-p of the first",
                Sampling {
                    top_p: Some(0.1),
                    ..warm()
                },
                &[1],
            ),
            (
                "top-p of the first two",
                Sampling {
                    top_p: Some(0.85),
                    ..warm()
                },
                &[1, 3],
            ),
            (
                "min-p",
                Sampling {
                    min_p: Some(0.5),
                    ..warm()
                },
                &[1, 3],
            ),
        ];
        for (name, sampling, allowed) in cases {
            let mut seen = choose_many(&sampling, &logits, 2000);
            seen.sort_unstable();
            seen.dedup();
            assert_eq!(seen, allowed, "{name}");
        }
    }

    #[test]
    fn frequencies_follow_the_probabilities() {
        let logits = [0.0, 1.0_f32.exp().ln() * 2.0, f32::ln(3.0)];
        let drawn = choose_many(&warm(), &logits, 40_000);
        let total: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
        for (id, &logit) in (0..).zip(&logits) {
            let expected = f64::from(logit).exp() / total;
            let found =
                drawn.iter().filter(|&&drawn| drawn == id).count() as f64 / drawn.len() as f64;
            assert!(
                (found - expected).abs() < 0.01,
                "token {id}: {found} instead of {expected}"
            );
        }
    }

    #[test]
    fn the_seed_decides() {
        let logits: Vec<f32> = (0..100).map(|id| (id as f32).sin()).collect();
        let seeded = |seed| choose_many(&Sampling { seed, ..warm() }, &logits, 50);
        assert_eq!(seeded(1), seeded(1));
        assert_ne!(seeded(1), seeded(2));
    }

    #[test]
    fn only_allowed_tokens_are_chosen_and_seen_by_the_filters() {
        // Longer than a word of the mask, with the largest logits outside of it.
        let logits: Vec<f32> = (0..77).map(|id| id as f32 * 0.1).collect();
        let masked = |sampling: &Sampling, allowed: &[u32]| {
            let mask = TokenMask::of(allowed, logits.len()).unwrap();
            let mut sampler = Sampler::new(sampling.clone()).unwrap();
            let mut seen: Vec<u32> = (0..2000)
                .map(|_| {
                    let mut logits = logits.clone();
                    sampler.choose(&mut logits, &[], Some(&mask)).unwrap()
                })
                .collect();
            seen.sort_unstable();
            seen.dedup();
            seen
        };
        let top_2 = Sampling {
            top_k: Some(2),
            ..warm()
        };
        let all_but_one: Vec<u32> = (0..76).collect();
        for allowed in [&[0][..], &[31, 32], &[8, 40, 64, 65], &all_but_one] {
            let likeliest = *allowed.last().unwrap();
            assert_eq!(masked(&Sampling::greedy(), allowed), [likeliest]);
            let kept = &allowed[allowed.len().saturating_sub(2)..];
            assert_eq!(masked(&top_2, allowed), kept);
        }
        assert_eq!(masked(&warm(), &[8, 40, 64, 65]), [8, 40, 64, 65]);
    }

    #[test]
    fn the_penalty_makes_repetition_less_likely() {
        let mut sampler = Sampler::new(Sampling {
            repetition_penalty: Some(2.0),
            ..Sampling::greedy()
        })
        .unwrap();
        assert_eq!(sampler.choose(&mut [1.0, 3.0, 2.0], &[1], None).unwrap(), 2);
        assert_eq!(
            sampler
                .choose(&mut [-1.0, -2.0, -3.0], &[0, 0], None)
                .unwrap(),
            0,
            "counted once"
        );
        assert_eq!(
            sampler.choose(&mut [-1.0, -1.9, -3.0], &[0], None).unwrap(),
            1
        );
    }

    #[test]
    fn the_mean_probability_is_that_of_the_softmax() {
        // Probabilities 1/8, 5/8 and 1/4, and one that is next to nothing.
        let logits = [0.0, f32::ln(5.0), f32::ln(2.0), -60.0];
        let measuring = Sampling {
            measures_probability: true,
            ..Sampling::greedy()
        };
        let mut sampler = Sampler::new(measuring).unwrap();
        assert_eq!(sampler.mean_probability(), None);
        sampler.choose(&mut logits.clone(), &[], None).unwrap();
        let mask = TokenMask::of(&[0], logits.len()).unwrap();
        sampler
            .choose(&mut logits.clone(), &[], Some(&mask))
            .unwrap();
        let mean = sampler.mean_probability().unwrap();
        assert!((mean - 0.375).abs() < 1e-6, "{mean}");
        let mut silent = Sampler::new(Sampling::greedy()).unwrap();
        silent.choose(&mut logits.clone(), &[], None).unwrap();
        assert_eq!(silent.mean_probability(), None);
    }

    #[test]
    fn logits_that_are_not_finite_are_an_error() {
        for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for sampling in [Sampling::greedy(), warm()] {
                let chosen =
                    Sampler::new(sampling)
                        .unwrap()
                        .choose(&mut [0.0, odd, 1.0], &[], None);
                assert!(
                    matches!(chosen, Err(EngineError::NonFiniteLogits { token: 1 })),
                    "{odd}"
                );
            }
        }
    }

    #[test]
    fn parameters_out_of_bounds_are_named() {
        let cases = [
            (
                "temperature",
                Sampling {
                    temperature: -0.1,
                    ..warm()
                },
            ),
            (
                "temperature",
                Sampling {
                    temperature: f32::NAN,
                    ..warm()
                },
            ),
            (
                "top_k",
                Sampling {
                    top_k: Some(0),
                    ..warm()
                },
            ),
            (
                "top_p",
                Sampling {
                    top_p: Some(0.0),
                    ..warm()
                },
            ),
            (
                "min_p",
                Sampling {
                    min_p: Some(1.5),
                    ..warm()
                },
            ),
            (
                "repetition_penalty",
                Sampling {
                    repetition_penalty: Some(0.5),
                    ..warm()
                },
            ),
        ];
        for (name, sampling) in cases {
            match Sampler::new(sampling) {
                Err(EngineError::ParameterInvalid { parameter, .. }) => assert_eq!(parameter, name),
                other => panic!("{name}: {other:?}"),
            }
        }
    }
}
