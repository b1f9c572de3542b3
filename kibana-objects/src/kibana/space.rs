//! Names for a second space of one Kibana, which has each id only once in all its spaces: importing it into another one
//! gives the copy an id by chance, which neither setup nor a link would find again.

use std::collections::BTreeSet;

use serde_json::Value;

use super::object::{Reference, SavedObject};

/// The same objects with ids of their own for that space; they refer to each other as before.
pub fn in_space(objects: Vec<SavedObject>, space: &str) -> Vec<SavedObject> {
    let known: BTreeSet<String> = objects.iter().map(|object| object.id.clone()).collect();
    let renamed = |id: String| if known.contains(&id) { format!("{id}-{space}") } else { id };
    let in_space = |object: SavedObject| {
        let references = object.references.into_iter();
        SavedObject {
            r#type: object.r#type,
            id: renamed(object.id),
            attributes: with_links(object.attributes, space),
            references: references.map(|r| Reference { id: renamed(r.id), ..r }).collect(),
        }
    };
    objects.into_iter().map(in_space).collect()
}

/// Texts link to saved searches by their addresses, in which an id ends with what Discover shows of it.
fn with_links(attributes: Value, space: &str) -> Value {
    const VIEW: &str = "discover#/view/";
    match attributes {
        Value::String(text) if text.contains(VIEW) => {
            let mut parts = text.split(VIEW);
            let first = parts.next().unwrap_or_default().to_owned();
            let renamed = parts.map(|part| {
                let end = part.find('?').unwrap_or(part.len());
                format!("{VIEW}{}-{space}{}", &part[..end], &part[end..])
            });
            (first + &renamed.collect::<String>()).into()
        }
        Value::Object(members) => {
            members.into_iter().map(|(key, value)| (key, with_links(value, space))).collect()
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::in_space;
    use crate::kibana::{ndjson, render};
    use crate::{Catalog, builtin};

    #[test]
    fn no_object_of_a_space_has_or_names_the_id_of_another() {
        let plain = render(builtin(), Catalog::builtin());
        let plain_ids: HashSet<&str> = plain.iter().map(|object| object.id.as_str()).collect();
        let objects = in_space(plain.clone(), "operations");
        let ids: HashSet<&str> = objects.iter().map(|object| object.id.as_str()).collect();
        assert_eq!(ids.len(), plain_ids.len());
        assert!(ids.is_disjoint(&plain_ids));
        let references = objects.iter().flat_map(|object| &object.references);
        assert!(references.into_iter().all(|reference| ids.contains(reference.id.as_str())));
        let views = |text: &str| text.matches("discover#/view/").count();
        let of_space = ndjson(&objects);
        let linked: Vec<&str> =
            of_space.split("discover#/view/").skip(1).map(|part| part.split('?').next().unwrap()).collect();
        assert_eq!(linked.len(), views(&ndjson(&plain)));
        assert!(!linked.is_empty() && linked.iter().all(|id| ids.contains(id)), "{linked:?}");
    }
}
