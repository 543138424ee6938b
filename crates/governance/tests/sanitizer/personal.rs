//! Cards, account numbers, addresses and numbers of persons.

use crate::fixtures::check;

#[test]
fn payment_cards_are_redacted() {
    let mark = "[REDACTED:payment-card:1]";
    let mut cases = Vec::new();
    for card in [
        "4111111111111111",
        "4111 1111 1111 1111",
        "4111-1111-1111-1111",
        "4111\u{a0}1111\u{a0}1111\u{a0}1111",
        "4222222222222",
        "5555555555554444",
        "2223003122003222",
        "378282246310005",
        "3782 822463 10005",
        "6011111111111117",
        "30569309025904",
        "3530111333300000",
        "6200000000000005",
        "6759649826438453",
    ] {
        for (before, after) in [
            ("", ""),
            ("card ", "."),
            ("card:", ", exp 12/29"),
            ("(", ")"),
            ("12 ", " x"),
            ("order-", "\n"),
            ("日本", "。"),
        ] {
            let tainted = before == "日本";
            let shown = if tainted { card } else { mark };
            cases.push((
                format!("{before}{card}{after}"),
                format!("{before}{shown}{after}"),
            ));
        }
    }
    check(&cases);
}

#[test]
fn personal_data_is_redacted() {
    let cases = [
        ("mail anna.b@posteo.de.", "mail [REDACTED:email-address:1]."),
        (
            "call +49 30 12345678 now",
            "call [REDACTED:phone-number:1] now",
        ),
        ("(415) 555-0123", "[REDACTED:phone-number:1]"),
        ("Phone: 030 1234567", "Phone: [REDACTED:phone-number:1]"),
        ("to DE89 3704 0044 0532 0130 00,", "to [REDACTED:iban:1],"),
        ("from 84.17.23.9 and", "from [REDACTED:ipv4-address:1] and"),
        ("at 00:1a:2b:3c:4d:5e.", "at [REDACTED:mac-address:1]."),
        ("SSN 536-22-8726", "SSN [REDACTED:us-ssn:1]"),
        (
            "NHS number: 943 476 5919",
            "NHS number: [REDACTED:uk-nhs-number:1]",
        ),
        ("DNI: 12345678Z", "DNI: [REDACTED:es-dni:1]"),
        (
            "Date of birth: 12/03/1985",
            "Date of birth: [REDACTED:date-of-birth:1]",
        ),
        (
            "I live at 12 Elm Street, Leeds",
            "I live at [REDACTED:street-address:1], Leeds",
        ),
        (
            "Passport number C12345678",
            "Passport number [REDACTED:passport-number:1]",
        ),
    ];
    check(&cases.map(|(text, expected)| (text.to_owned(), expected.to_owned())));
}

#[test]
fn numbers_without_evidence_stay() {
    let cases = [
        "943 476 5919",
        "C12345678",
        "12/03/1985",
        "12 Elm Street",
        "127.0.0.1",
        "version 1.2.3",
        "000-12-3456",
        "DE89 3704 0044 0532 0130 01",
        "order 2026-114-8812",
    ];
    check(&cases.map(|text| (text.to_owned(), text.to_owned())));
}

#[test]
fn disguised_numbers_are_found() {
    let cases = [
        (
            "４１１１ １１１１ １１１１ １１１１",
            "[REDACTED:payment-card:1]",
        ),
        (
            "4111\u{200b}1111\u{200b}1111\u{200b}1111",
            "[REDACTED:payment-card:1]",
        ),
        ("4111–1111–1111–1111", "[REDACTED:payment-card:1]"),
    ];
    check(&cases.map(|(text, expected)| (text.to_owned(), expected.to_owned())));
}
