//! The page stands by itself, hides nothing from anyone, and lets no name become markup.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use postern_audit::{Collector, Entry, Outcome, REVIEW_APPROVED, Record, Stats};

use crate::figures::collect;
use crate::records::{administered, admitted, completed, every_kind, held, record, refused, time};

/// Names that would be markup, end an attribute or turn text around.
const HOSTILE: [&str; 4] = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "'&lt;b&gt;",
    "a\u{202e}b",
];

/// Two months of calls, refusals and reviews, with gaps.
fn two_months() -> Stats {
    let mut collector = Collector::new();
    let mut index = 0;
    let mut add = |day: i64, entry: Entry| {
        let time = time(0) + SignedDuration::from_hours(24 * day);
        collector.add(&Record {
            time,
            ..record(index, entry)
        });
        index += 1;
        index - 1
    };
    for day in (0..60).filter(|day| day % 7 != 6) {
        for call in 0..5 + (day * 13) % 17 {
            let identity = ["kiosk", "till", "office", HOSTILE[0]][(call % 4) as usize];
            let template = ["coffee.v1", "bill.v2", HOSTILE[1]][(call % 3) as usize];
            let id = format!("call-{day}-{call}");
            let admitted_index = add(day, Entry::Admitted(admitted(&id, identity, template)));
            let outcome = match call {
                3 => Outcome::Length,
                7 => held(&["risk-high"]),
                _ => Outcome::Completed,
            };
            let mut end = completed(&id, admitted_index, outcome);
            end.timings.queued_us = 300 + 900 * call as u64 * call as u64;
            end.timings.first_token_us = Some(80_000 + 21_000 * call as u64);
            end.timings.total_us = 700_000 + 400_000 * call as u64;
            add(day, Entry::Completed(end));
        }
        for code in ["rate-limited", "token-expired", HOSTILE[2]] {
            add(day, Entry::Refused(refused("r", Some(HOSTILE[3]), code)));
        }
        let decision = administered(
            Some("alice"),
            REVIEW_APPROVED,
            &format!("call-{}-7", day - 1),
        );
        add(day, Entry::Administered(decision));
    }
    collector.stats()
}

fn pages() -> Vec<String> {
    let every_record: Vec<Record> = every_kind().into_iter().map(|(_, record)| record).collect();
    vec![
        two_months().to_html(HOSTILE[0]),
        collect(&every_record).to_html("pi-5"),
        collect(&[]).to_html("pi-5"),
    ]
}

/// A tag as it stands in a page: its name, and what else is between the brackets.
struct Tag<'a> {
    name: &'a str,
    rest: &'a str,
    closes: bool,
}

impl<'a> Tag<'a> {
    fn attribute(&self, name: &str) -> Option<&'a str> {
        let start = format!(" {name}=\"");
        let (_, value) = self.rest.split_once(&start)?;
        value.split_once('"').map(|(value, _)| value)
    }

    fn has_no_end(&self) -> bool {
        self.rest.ends_with('/') || matches!(self.name, "!doctype" | "meta")
    }
}

/// All tags in order. Text has no brackets, as a page escapes them.
fn tags(page: &str) -> Vec<Tag<'_>> {
    let pieces = page.split('<').skip(1);
    let inside = pieces.map(|piece| piece.split_once('>').unwrap().0);
    let tags = inside.map(|inside| {
        let (closes, inside) = match inside.strip_prefix('/') {
            Some(inside) => (true, inside),
            None => (false, inside),
        };
        let end = inside.find([' ', '/']).unwrap_or(inside.len());
        let (name, rest) = inside.split_at(end);
        Tag { name, rest, closes }
    });
    tags.collect()
}

#[test]
fn every_element_is_closed_where_it_was_opened() {
    for page in pages() {
        let mut open = Vec::new();
        for tag in tags(&page).iter().filter(|tag| !tag.has_no_end()) {
            match tag.closes {
                true => assert_eq!(open.pop(), Some(tag.name), "{page}"),
                false => open.push(tag.name),
            }
        }
        assert_eq!(open, [""; 0]);
    }
}

#[test]
fn nothing_is_loaded_and_nothing_runs() {
    let known = [
        "!doctype", "body", "caption", "circle", "dd", "desc", "details", "div", "dl", "dt", "h1",
        "h2", "head", "header", "html", "line", "main", "meta", "p", "rect", "section", "small",
        "style", "summary", "svg", "table", "tbody", "td", "text", "th", "thead", "title", "tr",
    ];
    for page in pages() {
        for tag in tags(&page) {
            assert!(known.contains(&tag.name), "{}", tag.name);
            for attribute in [
                "src",
                "href",
                "xlink:href",
                "style",
                "onload",
                "onerror",
                "onclick",
            ] {
                assert_eq!(tag.attribute(attribute), None, "{}", tag.name);
            }
        }
        for loading in ["url(", "@import", "://"] {
            assert!(!page.contains(loading), "{loading}");
        }
        assert!(page.contains("content=\"default-src 'none'; style-src 'unsafe-inline'\""));
    }
}

#[test]
fn names_are_text() {
    let page = two_months().to_html(HOSTILE[0]);
    for name in [HOSTILE[0], HOSTILE[1], HOSTILE[3]] {
        assert!(!page.contains(name), "{name}");
    }
    for shown in [
        "<title>Audit report of &lt;script&gt;alert(1)&lt;/script&gt;</title>",
        "&quot;&gt;&lt;img src=x onerror=alert(1)&gt;",
        "&#39;&amp;lt;b&amp;gt;",
        "a\\u{202e}b",
    ] {
        assert!(page.contains(shown), "{shown}");
    }
}

#[test]
fn charts_can_be_heard() {
    for page in pages() {
        let tags = tags(&page);
        let ids: Vec<&str> = tags.iter().filter_map(|tag| tag.attribute("id")).collect();
        let distinct: BTreeSet<&str> = ids.iter().copied().collect();
        assert_eq!(distinct.len(), ids.len(), "an id is used twice");
        for (place, tag) in tags.iter().enumerate() {
            if let Some(labels) = tag.attribute("aria-labelledby") {
                assert!(
                    labels.split(' ').all(|label| distinct.contains(label)),
                    "{labels}"
                );
            }
            if tag.name == "svg" && !tag.closes {
                let inside: Vec<&str> = tags[place + 1..]
                    .iter()
                    .take(4)
                    .map(|tag| tag.name)
                    .collect();
                assert_eq!(inside, ["title", "title", "desc", "desc"]);
                assert_eq!(tag.attribute("role"), Some("img"));
                assert!(tag.attribute("viewBox").is_some());
            }
        }
        let count = |name: &str| {
            tags.iter()
                .filter(|tag| tag.name == name && !tag.closes)
                .count()
        };
        assert_eq!(
            count("svg"),
            count("table"),
            "every chart has its numbers in a table"
        );
        assert!(tags.iter().any(|tag| tag.attribute("lang") == Some("en")));
    }
}

#[test]
fn both_light_and_dark_are_thought_of() {
    let page = collect(&[]).to_html("pi-5");
    assert!(page.contains("<meta name=\"color-scheme\" content=\"light dark\">"));
    assert!(page.contains("@media (prefers-color-scheme: dark)"));
}

#[test]
fn marks_stay_within_their_charts() {
    for page in pages() {
        for tag in tags(&page).iter().filter(|tag| tag.name == "rect") {
            for attribute in ["x", "y", "width", "height"] {
                let number: f64 = tag.attribute(attribute).unwrap().parse().unwrap();
                assert!((0.0..=720.0).contains(&number), "{attribute} is {number}");
            }
        }
    }
}

#[test]
fn a_page_of_a_year_is_small() {
    let bytes = two_months().to_html("pi-5").len();
    assert!(bytes < 128 * 1024, "{bytes} bytes");
}
