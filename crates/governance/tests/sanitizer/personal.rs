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
