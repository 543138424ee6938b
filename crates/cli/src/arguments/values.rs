//! Values on the command line that have a form of their own.

use std::time::Duration;

use postern_audit::Receipt;

/// A variable's name and its value as written, `@` and all.
pub(super) fn parse_variable(written: &str) -> Result<(String, String), String> {
    let (name, value) = written
        .split_once('=')
        .ok_or("expected name=value, name=@file or name=@-")?;
    if name.is_empty() {
        return Err("the name before `=` is empty".into());
    }
    Ok((name.to_owned(), value.to_owned()))
}

/// An audit receipt as answers carry it: index and head.
pub(crate) fn parse_receipt(written: &str) -> Result<Receipt, String> {
    const FORM: &str = "expected INDEX:HEAD, a number and 64 lower-case hexadecimal digits";
    let (index, head) = written.split_once(':').ok_or(FORM)?;
    let hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if head.len() != 64 || !head.bytes().all(hex) {
        return Err(FORM.into());
    }
    Ok(Receipt {
        index: index.parse().map_err(|_| FORM)?,
        head: head.to_owned(),
        leaf: String::new(),
        checkpoint: String::new(),
    })
}

/// A share from 0 to 1.
pub(super) fn parse_share(written: &str) -> Result<f32, String> {
    let share = written.parse().ok();
    let share = share.filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "expected a number from 0 to 1, e.g. 0.8".into())
}

/// A whole number and one of the units s, m, h.
pub(super) fn parse_ttl(written: &str) -> Result<Duration, String> {
    const FORM: &str = "expected a whole number and a unit, e.g. 90s, 15m or 1h";
    let unit_seconds = match written.chars().last() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3600,
        _ => return Err(FORM.into()),
    };
    let number: u64 = written[..written.len() - 1].parse().map_err(|_| FORM)?;
    let seconds = number.checked_mul(unit_seconds).ok_or(FORM)?;
    if seconds == 0 {
        return Err("a token must be valid for at least one second".into());
    }
    Ok(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_to_live_needs_a_number_and_a_unit() {
        #[track_caller]
        fn check(written: &str, expected: Option<u64>) {
            assert_eq!(
                parse_ttl(written).ok().map(|ttl| ttl.as_secs()),
                expected,
                "{written}"
            );
        }
        check("1h", Some(3600));
        check("15m", Some(900));
        check("90s", Some(90));
        check("0s", None);
        check("h", None);
        check("", None);
        check("90", None);
        check("1d", None);
        check("-1h", None);
        check("1ü", None);
        check("99999999999999999999h", None);
        check("18446744073709551615h", None);
    }

    #[test]
    fn a_variable_is_a_name_and_the_rest() {
        #[track_caller]
        fn check(written: &str, expected: Option<(&str, &str)>) {
            let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
            assert_eq!(parse_variable(written).ok(), expected, "{written}");
        }
        check("wishes=quiet", Some(("wishes", "quiet")));
        check("a=b=c", Some(("a", "b=c")));
        check("a=", Some(("a", "")));
        check("=a", None);
        check("a", None);
    }
}
