//! What a text's words say: noun phrases such as "ignore all of the previous instructions", and
//! turns of phrase that are always the same.
//!
//! Between the words of a phrase only fillers may stand, so "ignore the previous mail, the
//! instructions have changed" is none.

use super::Signal;
use super::finder::Found;
use super::lexicon::{role, roles_of};
use super::line::Line;
use super::turns::TURNS;

/// Most words of a phrase from its verb on.
const PHRASE_WORDS_MAX: usize = 12;
/// Most words from a verb of sending on that say what is sent where.
const SENT_WORDS_MAX: usize = PHRASE_WORDS_MAX + 4;

/// What the words of a text are signs of.
pub(super) fn signals(line: &Line, found: &Found) -> Vec<Signal> {
    let mut signals = Vec::new();
    for &turn in &found.turns {
        let (name, weight, reason, _) = TURNS[turn];
        push(&mut signals, name, reason, weight);
    }
    for &verb in &found.verbs {
        let phrase = Phrase::at(line, verb);
        let does = phrase.roles[0];
        if does & role::OVERRIDE != 0 {
            override_signals(&phrase, &mut signals);
        }
        if does & role::REVEAL != 0 {
            reveal_signals(&phrase, &mut signals);
        }
        if does & role::SEND != 0 {
            send_signals(line, verb, &mut signals);
        }
    }
    signals
}

/// Whether a text is about injections and only quotes one.
pub(super) fn talks_about_injections(text: &str, line: &Line) -> bool {
    let quotes = text.contains(['"', '“', '”', '«', '„', '`']) || text.contains(" '");
    let about = line
        .words()
        .filter(|word| roles_of(word) & role::ABOUT != 0);
    about.take(2).count() >= if quotes { 1 } else { 2 }
}

/// What the words from a verb on may do, up to the first that does nothing.
struct Phrase {
    roles: [u16; PHRASE_WORDS_MAX],
}

impl Phrase {
    fn at(line: &Line, verb: usize) -> Self {
        let mut roles = [0; PHRASE_WORDS_MAX];
        let words = line.words_from(verb).map(roles_of);
        for (place, has) in roles.iter_mut().zip(words.take_while(|has| *has != 0)) {
            *place = has;
        }
        Self { roles }
    }

    /// Whether each of the roles follows the last, with nothing but fillers and words of the
    /// allowed roles between.
    fn has(&self, roles: &[u16], allowed: u16) -> bool {
        let mut wanted = roles.iter().peekable();
        for has in self.roles {
            match wanted.peek() {
                Some(role) if has & **role != 0 => {
                    wanted.next();
                }
                Some(_) if has & (role::FILLER | allowed) != 0 => {}
                _ => break,
            }
        }
        wanted.peek().is_none()
    }
}

fn override_signals(phrase: &Phrase, signals: &mut Vec<Signal>) {
    const NAME: &str = "instruction-override";
    let between = role::YOURS | role::PRIOR | role::HIDDEN;
    let prior = phrase.has(&[role::OVERRIDE, role::PRIOR, role::RULES], between)
        || phrase.has(&[role::OVERRIDE, role::RULES, role::PRIOR], between);
    if prior {
        return push(
            signals,
            NAME,
            "says that earlier instructions do not hold",
            0.6,
        );
    }
    if phrase.has(&[role::OVERRIDE, role::YOURS, role::RULES], between)
        || phrase.has(&[role::OVERRIDE, role::HIDDEN, role::RULES], between)
    {
        return push(
            signals,
            NAME,
            "says that the model's own rules do not hold",
            0.55,
        );
    }
    if phrase.has(&[role::OVERRIDE, role::RULES], between) {
        push(signals, NAME, "says that some rules do not hold", 0.3);
    }
}

fn reveal_signals(phrase: &Phrase, signals: &mut Vec<Signal>) {
    const NAME: &str = "exfiltration";
    let between = role::YOURS | role::HIDDEN | role::PRIOR;
    let hidden = phrase.has(&[role::REVEAL, role::HIDDEN, role::RULES], between);
    let yours = phrase.has(&[role::REVEAL, role::YOURS, role::RULES], between);
    if hidden || yours {
        return push(signals, NAME, "asks for the model's instructions", 0.55);
    }
    let treasure = phrase.has(&[role::REVEAL, role::YOURS, role::TREASURE], between)
        || phrase.has(&[role::REVEAL, role::HIDDEN, role::TREASURE], between);
    if treasure {
        push(signals, NAME, "asks for secrets of the model's side", 0.4);
    } else if phrase.has(&[role::REVEAL, role::PRIOR, role::RULES], between) {
        push(
            signals,
            NAME,
            "asks for instructions that stand before the text",
            0.35,
        );
    }
}

fn send_signals(line: &Line, verb: usize, signals: &mut Vec<Signal>) {
    const AWAY: [&str; 6] = ["http", "https", "webhook", "url", "server", "endpoint"];
    const HISTORY: [&str; 5] = ["conversation", "history", "chat", "context", "transcript"];
    let words = || line.words_from(verb).take(SENT_WORDS_MAX);
    let has = |wanted: u16| words().any(|word| roles_of(word) & wanted != 0);
    if !words().any(|word| AWAY.contains(&word)) {
        return;
    }
    let history = words().any(|word| HISTORY.contains(&word));
    if history || has(role::TREASURE) {
        let weight = if history || has(role::YOURS) {
            0.4
        } else {
            0.25
        };
        push(
            signals,
            "exfiltration",
            "asks to send what is known elsewhere",
            weight,
        );
    }
}

fn push(signals: &mut Vec<Signal>, name: &'static str, reason: &'static str, weight: f32) {
    let known = signals
        .iter_mut()
        .find(|s| s.name == name && s.reason == reason);
    match known {
        Some(signal) => signal.weight = signal.weight.max(weight),
        None => signals.push(Signal {
            name,
            reason,
            weight,
        }),
    }
}
