//! Numbers, durations and names as people read them.
//!
//! Invariant: a shown name has no character that moves a cursor, hides or turns text around, and
//! is of bounded length. Absent: escaping for HTML.

use jiff::Timestamp;

/// Most characters of a name that are shown.
const NAME_CHARACTERS_MAX: usize = 48;
const MILLISECOND_US: f64 = 1e3;
const SECOND_US: f64 = 1e6;
const MINUTE_US: f64 = 60.0 * SECOND_US;
const HOUR_US: f64 = 60.0 * MINUTE_US;
const DAY_US: f64 = 24.0 * HOUR_US;

/// A count with its thousands set apart.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut shown = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

/// A duration in the unit that suits it, with two or three significant digits.
pub(super) fn duration(duration_us: u64) -> String {
    let us = duration_us as f64;
    let (number, unit) = match us {
        us if us < MILLISECOND_US => return format!("{duration_us} µs"),
        us if us < SECOND_US => (us / MILLISECOND_US, "ms"),
        us if us < MINUTE_US => (us / SECOND_US, "s"),
        us if us < HOUR_US => (us / MINUTE_US, "min"),
        us if us < DAY_US => (us / HOUR_US, "h"),
        us => (us / DAY_US, "d"),
    };
    match number {
        number if number < 10.0 => format!("{number:.2} {unit}"),
        number if number < 100.0 => format!("{number:.1} {unit}"),
        number => format!("{number:.0} {unit}"),
    }
}

/// A part of a whole in percent; a dash where there is no whole.
pub(super) fn share(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "–".to_owned();
    }
    format!("{:.1} %", 100.0 * part as f64 / whole as f64)
}

/// A time to the second.
pub(super) fn time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// A name from a record.
pub(super) fn name(name: &str) -> String {
    let mut shown = String::new();
    for (place, character) in name.chars().enumerate() {
        if place == NAME_CHARACTERS_MAX {
            shown.push('…');
            break;
        }
        if is_plain(character) {
            shown.push(character);
        } else {
            shown.extend(character.escape_unicode());
        }
    }
    shown
}

/// Whether a character only shows itself: no control, no mark of direction, nothing invisible.
fn is_plain(character: char) -> bool {
    let moves_text = matches!(
        character,
        '\u{ad}'
            | '\u{61c}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}'
    );
    !character.is_control() && !moves_text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_their_thousands_apart() {
        let cases = [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (1_234_567, "1,234,567"),
            (u64::MAX, "18,446,744,073,709,551,615"),
        ];
        for (number, expected) in cases {
            assert_eq!(count(number), expected);
        }
    }

    #[test]
    fn durations_are_in_the_unit_that_suits_them() {
        let cases = [
            (0, "0 µs"),
            (999, "999 µs"),
            (1_500, "1.50 ms"),
            (90_000, "90.0 ms"),
            (1_250_000, "1.25 s"),
            (90_000_000, "1.50 min"),
            (5 * 3_600_000_000, "5.00 h"),
            (150 * 86_400_000_000, "150 d"),
        ];
        for (duration_us, expected) in cases {
            assert_eq!(duration(duration_us), expected);
        }
    }

    #[test]
    fn names_move_nothing() {
        let cases = [
            ("coffee.v1", "coffee.v1"),
            ("Ünïcode 咖啡 🦀", "Ünïcode 咖啡 🦀"),
            ("\u{1b}[31mred", "\\u{1b}[31mred"),
            ("a\u{202e}b\u{9b}c\n", "a\\u{202e}b\\u{9b}c\\u{a}"),
        ];
        for (found, expected) in cases {
            assert_eq!(name(found), expected);
        }
        let long = name(&"x".repeat(256));
        assert_eq!(long.chars().count(), NAME_CHARACTERS_MAX + 1);
    }
}
