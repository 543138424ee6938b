//! What rules can speak about, as Cedar's entities: it changes with the rule set only.

use std::collections::{HashMap, HashSet};

use cedar_policy::{Entities, Entity, EntityUid, RestrictedExpression, Schema};

use super::question::{DEVICE_ID, uid};
use crate::names::UseCase;
use crate::policy::Policy;
use crate::template::Template;
use crate::template_set::TemplateSet;

/// All roles, identities and templates, and the device.
pub(super) fn entities(policy: &Policy, templates: &TemplateSet, schema: &Schema) -> Entities {
    let roles = policy.roles().map(|role| plain(uid("Role", role.as_str())));
    let identities = policy.identities().map(|identity| {
        let roles = policy.roles_of(identity);
        let roles = roles.map(|role| uid("Role", role.as_str()));
        Entity::new_no_attrs(uid("Identity", identity.as_str()), roles.collect())
    });
    let device = std::iter::once(plain(uid("Device", DEVICE_ID)));
    let all = roles
        .chain(identities)
        .chain(templates.iter().map(template_entity))
        .chain(device);
    Entities::from_entities(all, Some(schema))
        .expect("each name is there once, and attributes are built as the schema has them")
}

fn plain(uid: EntityUid) -> Entity {
    Entity::new_no_attrs(uid, HashSet::new())
}

fn template_entity(template: &Template) -> Entity {
    let text = |text: &str| RestrictedExpression::new_string(text.to_owned());
    let (name, version) = template.id.parts();
    let version = version.parse().expect("a version has few digits");
    let classes = template.variables.values();
    let classes = classes.map(|spec| text(spec.data_class.as_str()));
    let attributes = HashMap::from(
        [
            ("name", text(name)),
            ("version", RestrictedExpression::new_long(version)),
            ("risk", text(template.risk.as_str())),
            (
                "riskLevel",
                RestrictedExpression::new_long(template.risk.level()),
            ),
            (
                "useCase",
                text(template.use_case.as_ref().map_or("", UseCase::as_str)),
            ),
            ("author", text(&template.author)),
            ("dataClasses", RestrictedExpression::new_set(classes)),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    );
    let uid = uid("Template", template.id.as_str());
    Entity::new(uid, attributes, HashSet::new()).expect("attributes are literals")
}
