//! OCSF lines against the schema: what class and objects require, what they know, what their
//! enumerations allow.
//!
//! The tables state facts of version 1.8.0 of the schema (`events/application/api_activity.json`,
//! `events/base_event.json`, `objects/*.json`, `dictionary.json` and the two profiles), as far as
//! lines have them.

use postern_audit::Format;
use serde_json::{Map, Value};

use crate::exporting::lines;

/// What the schema says of the object at one place of a line.
struct Object {
    /// Members from the line inwards; a list stands for each of its elements.
    path: &'static [&'static str],
    required: &'static [&'static str],
    /// Of these one must be there at least, if there are any.
    one_of: &'static [&'static str],
    /// Other attributes that it may have.
    optional: &'static [&'static str],
}

const OBJECTS: [Object; 19] = [
    Object {
        path: &[],
        required: &[
            "activity_id",
            "actor",
            "api",
            "category_uid",
            "class_uid",
            "metadata",
            "severity_id",
            "src_endpoint",
            "time",
            "type_uid",
        ],
        one_of: &[],
        optional: &[
            "action",
            "action_id",
            "activity_name",
            "ai_model",
            "authorizations",
            "category_name",
            "class_name",
            "count",
            "disposition",
            "disposition_id",
            "dst_endpoint",
            "end_time",
            "message",
            "message_context",
            "policy",
            "resources",
            "severity",
            "start_time",
            "status",
            "status_code",
            "status_detail",
            "status_id",
            "type_name",
            "unmapped",
        ],
    },
    Object {
        path: &["metadata"],
        required: &["product", "version"],
        one_of: &[],
        optional: &[
            "correlation_uid",
            "event_code",
            "log_name",
            "log_provider",
            "original_event_uid",
            "original_time",
            "profiles",
            "sequence",
            "uid",
        ],
    },
    Object {
        path: &["metadata", "product"],
        required: &[],
        one_of: &["name", "uid"],
        optional: &["vendor_name", "version"],
    },
    Object {
        path: &["actor"],
        required: &[],
        one_of: &[
            "process",
            "user",
            "invoked_by",
            "session",
            "app_name",
            "app_uid",
        ],
        optional: &[],
    },
    Object {
        path: &["actor", "user"],
        required: &[],
        one_of: &["account", "name", "uid"],
        optional: &["type", "type_id"],
    },
    Object {
        path: &["api"],
        required: &["operation"],
        one_of: &[],
        optional: &["request", "response", "service", "token"],
    },
    Object {
        path: &["api", "request"],
        required: &["uid"],
        one_of: &[],
        optional: &["data"],
    },
    Object {
        path: &["api", "response"],
        required: &[],
        one_of: &[],
        optional: &["data", "error", "error_message", "message"],
    },
    Object {
        path: &["api", "service"],
        required: &[],
        one_of: &["name", "uid"],
        optional: &["version"],
    },
    Object {
        path: &["api", "token"],
        required: &[],
        one_of: &[],
        optional: &["type", "type_id", "uid"],
    },
    Object {
        path: &["src_endpoint"],
        required: &[],
        one_of: ENDPOINT_ONE_OF,
        optional: &["type", "type_id"],
    },
    Object {
        path: &["dst_endpoint"],
        required: &[],
        one_of: ENDPOINT_ONE_OF,
        optional: &["type", "type_id"],
    },
    Object {
        path: &["resources"],
        required: &[],
        one_of: &["name", "uid"],
        optional: &["role", "role_id", "type"],
    },
    Object {
        path: &["authorizations"],
        required: &[],
        one_of: &[],
        optional: &["decision", "policy"],
    },
    Object {
        path: &["authorizations", "policy"],
        required: &[],
        one_of: &["name", "type", "uid"],
        optional: &["is_applied"],
    },
    Object {
        path: &["policy"],
        required: &[],
        one_of: &["name", "type", "uid"],
        optional: &["is_applied"],
    },
    Object {
        path: &["ai_model"],
        required: &["ai_provider", "name"],
        one_of: &["name", "uid"],
        optional: &["version"],
    },
    Object {
        path: &["message_context"],
        required: &[],
        one_of: &["application", "service"],
        optional: &[
            "ai_role",
            "ai_role_id",
            "completion_tokens",
            "name",
            "prompt_tokens",
            "total_tokens",
            "uid",
        ],
    },
    Object {
        path: &["message_context", "service"],
        required: &[],
        one_of: &["name", "uid"],
        optional: &["version"],
    },
];

const ENDPOINT_ONE_OF: &[&str] = &[
    "ip",
    "uid",
    "name",
    "hostname",
    "svc_name",
    "instance_uid",
    "interface_uid",
    "interface_name",
    "domain",
];

/// The number that leaves the caption to the source.
const OTHER: u64 = 99;

/// An attribute with a number, its sibling with the caption, and the values that are allowed.
struct Enumeration {
    path: &'static [&'static str],
    number: &'static str,
    caption: &'static str,
    values: &'static [(u64, &'static str)],
}

const ENUMERATIONS: [Enumeration; 11] = [
    Enumeration {
        path: &[],
        number: "category_uid",
        caption: "category_name",
        values: &[(6, "Application Activity")],
    },
    Enumeration {
        path: &[],
        number: "class_uid",
        caption: "class_name",
        values: &[(6003, "API Activity")],
    },
    Enumeration {
        path: &[],
        number: "activity_id",
        caption: "activity_name",
        values: &[
            (0, "Unknown"),
            (1, "Create"),
            (2, "Read"),
            (3, "Update"),
            (4, "Delete"),
            (99, "Other"),
        ],
    },
    Enumeration {
        path: &[],
        number: "severity_id",
        caption: "severity",
        values: &[
            (0, "Unknown"),
            (1, "Informational"),
            (2, "Low"),
            (3, "Medium"),
            (4, "High"),
            (5, "Critical"),
            (6, "Fatal"),
            (99, "Other"),
        ],
    },
    Enumeration {
        path: &[],
        number: "status_id",
        caption: "status",
        values: &[
            (0, "Unknown"),
            (1, "Success"),
            (2, "Failure"),
            (99, "Other"),
        ],
    },
    Enumeration {
        path: &[],
        number: "action_id",
        caption: "action",
        values: &[
            (0, "Unknown"),
            (1, "Allowed"),
            (2, "Denied"),
            (3, "Observed"),
            (4, "Modified"),
            (99, "Other"),
        ],
    },
    Enumeration {
        path: &[],
        number: "disposition_id",
        caption: "disposition",
        values: &[
            (0, "Unknown"),
            (1, "Allowed"),
            (2, "Blocked"),
            (3, "Quarantined"),
            (8, "Approved"),
            (16, "No Action"),
            (17, "Logged"),
            (25, "Rejected"),
            (26, "Unauthorized"),
            (27, "Error"),
            (99, "Other"),
        ],
    },
    Enumeration {
        path: &["actor", "user"],
        number: "type_id",
        caption: "type",
        values: &[
            (0, "Unknown"),
            (1, "User"),
            (2, "Admin"),
            (3, "System"),
            (4, "Service"),
            (99, "Other"),
        ],
    },
    Enumeration {
        path: &["api", "token"],
        number: "type_id",
        caption: "type",
        values: &[(6, "Client Token"), (7, "API Token"), (99, "Other")],
    },
    Enumeration {
        path: &["resources"],
        number: "role_id",
        caption: "role",
        values: &[(1, "Target"), (2, "Actor"), (3, "Affected"), (4, "Related")],
    },
    Enumeration {
        path: &["message_context"],
        number: "ai_role_id",
        caption: "ai_role",
        values: &[
            (0, "Unknown"),
            (1, "User"),
            (2, "Assistant"),
            (3, "Tool"),
            (4, "Agent"),
            (5, "Orchestrator"),
            (6, "Retriever"),
            (99, "Other"),
        ],
    },
];

/// The objects at a place of a value: none where it has no such member.
fn objects_at<'a>(value: &'a Value, path: &[&str]) -> Vec<&'a Map<String, Value>> {
    match (value, path) {
        (Value::Array(elements), _) => {
            let inner = elements
                .iter()
                .flat_map(|element| objects_at(element, path));
            inner.collect()
        }
        (Value::Object(members), []) => vec![members],
        (Value::Object(members), [first, rest @ ..]) => match members.get(*first) {
            Some(member) => objects_at(member, rest),
            None => Vec::new(),
        },
        (value, _) => panic!("{value} is no object"),
    }
}

#[test]
fn objects_have_what_they_must_and_nothing_unknown() {
    for (shows, line) in lines(Format::Ocsf) {
        for object in &OBJECTS {
            for members in objects_at(&line, object.path) {
                check_object(shows, object, members);
            }
        }
    }
}

fn check_object(shows: &str, object: &Object, members: &Map<String, Value>) {
    let place = object.path;
    for name in object.required {
        assert!(
            members.contains_key(*name),
            "{shows}: {place:?} lacks {name}"
        );
    }
    let mut one_of = object.one_of.iter();
    let has_one = object.one_of.is_empty() || one_of.any(|name| members.contains_key(*name));
    assert!(
        has_one,
        "{shows}: {place:?} has none of {:?}",
        object.one_of
    );
    for name in members.keys() {
        let known = [object.required, object.one_of, object.optional].concat();
        assert!(
            known.contains(&name.as_str()),
            "{shows}: {place:?} knows no {name}"
        );
    }
}

#[test]
fn objects_of_every_place_are_checked() {
    for object in &OBJECTS {
        let lines = lines(Format::Ocsf);
        let found = lines
            .iter()
            .any(|(_, line)| !objects_at(line, object.path).is_empty());
        assert!(found, "no line has anything at {:?}", object.path);
    }
}

#[test]
fn numbers_are_of_their_enumerations_and_captions_agree() {
    for (shows, line) in lines(Format::Ocsf) {
        for enumeration in &ENUMERATIONS {
            for members in objects_at(&line, enumeration.path) {
                check_enumeration(shows, enumeration, members);
            }
        }
    }
}

fn check_enumeration(shows: &str, enumeration: &Enumeration, members: &Map<String, Value>) {
    let Enumeration {
        number,
        caption,
        values,
        ..
    } = enumeration;
    let Some(found) = members.get(*number) else {
        assert!(
            !members.contains_key(*caption),
            "{shows}: {caption} without {number}"
        );
        return;
    };
    let allowed = values.iter().find(|(value, _)| found == value);
    let Some((value, expected)) = allowed else {
        panic!("{shows}: {number} is {found}");
    };
    if *value != OTHER {
        assert_eq!(members[*caption], **expected, "{shows}: {caption}");
    }
}

#[test]
fn types_follow_from_class_and_activity() {
    for (shows, line) in lines(Format::Ocsf) {
        let activity = line["activity_id"].as_u64().unwrap();
        assert_eq!(line["type_uid"], 6003 * 100 + activity, "{shows}");
        assert_eq!(line["metadata"]["version"], "1.8.0");
        let profiles = &line["metadata"]["profiles"];
        assert_eq!(
            *profiles,
            serde_json::json!(["ai_operation", "security_control"])
        );
    }
}

#[test]
fn times_are_milliseconds() {
    let (_, first) = &lines(Format::Ocsf)[0];
    assert_eq!(first["time"], 1_795_780_800_000_u64);
    assert_eq!(
        first["metadata"]["original_time"],
        "2026-11-27T12:00:00.000250Z"
    );
}
