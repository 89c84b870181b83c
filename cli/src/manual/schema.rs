//! What verbs print with `--output json`, as a JSON Schema for whoever reads it: `docs/output.schema.json`.

use keyrotate_proto::api::{
    AuditRecord, DeadLetterList, FailedRow, JobDescription, JobList, JobStatus, Requeued, Resealed,
};
use keyrotate_proto::forecast::Forecast;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Value, json};

use crate::doctor::Findings;
use crate::explain::Entry;
use crate::key::KeyStatus;

fn of<T: JsonSchema>(verbs: &mut SchemaGenerator) -> Value {
    verbs.subschema_for::<T>().to_value()
}

fn schema() -> Value {
    let mut types = SchemaGenerator::default();
    let status = of::<JobStatus>(&mut types);
    let text = json!({ "type": "string" });
    let verbs = json!({
        "census, run --dry-run, start --dry-run": of::<Forecast>(&mut types),
        "start, status, pause, resume, cancel, set, confirm": status,
        "list": of::<JobList>(&mut types),
        "describe": of::<JobDescription>(&mut types),
        "audit": of::<AuditRecord>(&mut types),
        "failed: one on each line": of::<FailedRow>(&mut types),
        "run": { "type": "object", "description": "The report's summary, as `report --format json` prints it." },
        "doctor": of::<Findings>(&mut types),
        "explain": of::<Vec<Entry>>(&mut types),
        "key status": of::<KeyStatus>(&mut types),
        "key create": { "type": "object", "properties": { "created": text } },
        "key list": { "type": "array", "items": text },
        "dlq list": of::<DeadLetterList>(&mut types),
        "dlq requeue": of::<Requeued>(&mut types),
        "reseal": of::<Resealed>(&mut types),
    });
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "What keyrotate prints with --output json, by verb. Fields are only ever added.",
        "type": "object",
        "properties": verbs,
        "$defs": types.definitions(),
    })
}

#[test]
fn the_shipped_schema_is_the_generated_one() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/output.schema.json");
    let generated = serde_json::to_string_pretty(&schema()).unwrap() + "\n";
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(path, &generated).unwrap();
    }
    let shipped = std::fs::read_to_string(path).unwrap_or_default();
    assert!(shipped == generated, "docs/output.schema.json is not what the code says; UPDATE_SCHEMA=1 writes it anew");
}
