//! The JSON Schema of the job file, from the very structs that `serde_yaml` fills.

use serde_json::Value;

use super::yaml::JobFile;

/// JSON Schema (draft 2020-12) of both layouts. It is shipped as `proto/schema/job.schema.json`, so that editors
/// complete and check a job file; put `# yaml-language-server: $schema=…` at its top.
#[must_use]
pub fn schema() -> Value {
    schemars::schema_for!(JobFile).to_value()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::fields::{FLAT, Known, NESTED, Shape};

    /// Follows `$ref` and the non-null side of `anyOf`.
    fn resolve<'a>(root: &'a Value, node: &'a Value) -> &'a Value {
        if let Some(target) = node.get("$ref").and_then(Value::as_str) {
            return resolve(root, root.pointer(target.trim_start_matches('#')).unwrap());
        }
        match node.get("anyOf").and_then(Value::as_array) {
            Some(sides) if node.get("properties").is_none() => {
                let side = sides.iter().find(|side| side.get("type").and_then(Value::as_str) != Some("null"));
                resolve(root, side.unwrap())
            }
            _ => node,
        }
    }

    fn allows(node: &Value, name: &str) -> bool {
        match &node["type"] {
            Value::String(one) => one == name,
            Value::Array(many) => many.iter().any(|one| one == name),
            _ => false,
        }
    }

    fn same(root: &Value, node: &Value, known: Known, path: &str) {
        let node = resolve(root, node);
        assert_eq!(node["additionalProperties"], Value::Bool(false), "{path}");
        let properties = node["properties"].as_object().unwrap();
        let mut names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        assert_eq!(names, properties.keys().map(String::as_str).collect::<Vec<_>>(), "{path}");
        for (name, shape) in known {
            let (here, property) = (format!("{path}.{name}"), &properties[*name]);
            assert!(property.get("description").is_some(), "{here} has no description");
            let property = resolve(root, property);
            match shape {
                Shape::Text => assert!(allows(property, "string"), "{here}"),
                Shape::Count => assert!(allows(property, "integer"), "{here}"),
                Shape::Flag => assert!(allows(property, "boolean"), "{here}"),
                Shape::Nothing => assert!(allows(property, "null"), "{here}"),
                Shape::Map(inner) => same(root, property, inner, &here),
                Shape::List(Shape::Map(inner)) => same(root, &property["items"], inner, &here),
                Shape::List(Shape::Text) => assert!(allows(&property["items"], "string"), "{here}"),
                Shape::Texts => assert!(allows(&property["additionalProperties"], "string"), "{here}"),
                Shape::List(_) | Shape::Named(_) => unreachable!("no such list: {here}"),
            }
        }
    }

    #[test]
    fn the_walk_and_the_typed_structs_know_the_same_fields() {
        let schema = schema();
        let layouts = schema["anyOf"].as_array().unwrap();
        same(&schema, &layouts[0], NESTED, "");
        same(&schema, &layouts[1], FLAT, "");
    }
}
