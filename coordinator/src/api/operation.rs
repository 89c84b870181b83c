//! One table of operations, of which both the router and the OpenAPI document are made: neither can know a route that the
//! other does not.

use std::sync::Arc;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::MethodRouter;
use keyrotate_config::token::Role;
use keyrotate_proto::api::Problem as ProblemBody;
use schemars::generate::{SchemaGenerator, SchemaSettings};
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value, json};

use super::Api;
use super::door::{self, guard};
use super::problem::Kind;

/// What an operation is called, who may use it, and what goes in and out.
pub(crate) struct Operation {
    /// `get`, `post` or `patch`.
    pub(crate) method: &'static str,
    /// With `{id}` and the like.
    pub(crate) path: &'static str,
    /// Its stable name.
    pub(crate) id: &'static str,
    /// What it does, in a sentence.
    pub(crate) summary: &'static str,
    /// Who may use it; `None`: everybody.
    pub(crate) role: Option<Role>,
    /// Parameters of the query: name, schema, what they mean.
    pub(crate) query: &'static [(&'static str, &'static str, &'static str)],
    /// Parameters in headers: name, what they mean.
    pub(crate) headers: &'static [(&'static str, &'static str)],
    /// What can go wrong, besides what can go wrong with every operation.
    pub(crate) problems: &'static [Kind],
}

/// Operations so far.
pub(crate) struct Table {
    router: Router<Arc<Api>>,
    paths: Map<String, Value>,
    schemas: SchemaGenerator,
    api: Arc<Api>,
}

impl Table {
    pub(crate) fn new(api: Arc<Api>) -> Self {
        let settings = SchemaSettings::draft2020_12().with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        });
        Self { router: Router::new(), paths: Map::new(), schemas: settings.into_generator(), api }
    }

    /// The schema of a body.
    pub(crate) fn schema<T: JsonSchema>(&mut self) -> Schema {
        self.schemas.subschema_for::<T>()
    }

    /// An operation that answers JSON with `status`.
    pub(crate) fn json<T: JsonSchema>(
        self,
        operation: &Operation,
        status: u16,
        handler: MethodRouter<Arc<Api>>,
    ) -> Self {
        self.taking_json::<(), T>(operation, status, handler)
    }

    /// An operation that takes JSON and answers JSON with `status`.
    pub(crate) fn taking_json<B: JsonSchema + 'static, T: JsonSchema>(
        mut self,
        operation: &Operation,
        status: u16,
        handler: MethodRouter<Arc<Api>>,
    ) -> Self {
        let nothing = std::any::TypeId::of::<B>() == std::any::TypeId::of::<()>();
        let body = (!nothing).then(|| json!({ "application/json": { "schema": self.schema::<B>() } }));
        let answer = json!({ "application/json": { "schema": self.schema::<T>() } });
        self.add(operation, body, (status, answer), handler)
    }

    /// An operation with bodies of its own: media types and their schemas.
    pub(crate) fn add(
        mut self,
        operation: &Operation,
        body: Option<Value>,
        (status, answer): (u16, Value),
        handler: MethodRouter<Arc<Api>>,
    ) -> Self {
        let document = self.document(operation, body, status, answer);
        let at = self.paths.entry(operation.path).or_insert_with(|| json!({}));
        at[operation.method] = document;
        let handler = match operation.role {
            Some(role) => handler.layer(from_fn_with_state((Arc::clone(&self.api.door), role), guard)),
            None => handler,
        };
        let (method, route) = (operation.method, operation.path);
        let handler = handler.layer(from_fn(move |request, next| door::traced(method, route, request, next)));
        // The router's word for "the rest of the path" is none of OpenAPI's.
        let path = operation.path.replace("{name}", "{*name}");
        self.router = self.router.route(&path, handler);
        self
    }

    fn document(&mut self, operation: &Operation, body: Option<Value>, status: u16, answer: Value) -> Value {
        let mut parameters = Vec::new();
        for name in operation.path.split('/').filter_map(|piece| piece.strip_prefix('{')) {
            let name = name.trim_end_matches('}');
            parameters.push(json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }));
        }
        for (name, kind, what) in operation.query {
            let schema = json!({ "type": kind });
            parameters.push(json!({ "name": name, "in": "query", "description": what, "schema": schema }));
        }
        for (name, what) in operation.headers {
            let schema = json!({ "type": "string" });
            parameters.push(json!({ "name": name, "in": "header", "description": what, "schema": schema }));
        }
        let mut responses = Map::new();
        responses.insert(status.to_string(), json!({ "description": "Done.", "content": answer }));
        let always: &[Kind] = match operation.role {
            Some(_) => &[Kind::NoToken, Kind::Forbidden, Kind::TooMany, Kind::Unavailable, Kind::Broken],
            None => &[],
        };
        let problem = self.schema::<ProblemBody>();
        for kind in always.iter().chain(operation.problems) {
            let content = json!({ "application/problem+json": { "schema": problem } });
            let said = json!({ "description": "A problem.", "content": content });
            responses.insert(kind.status().as_u16().to_string(), said);
        }
        let mut document = json!({
            "operationId": operation.id,
            "summary": operation.summary,
            "parameters": parameters,
            "responses": responses,
        });
        if let Some(body) = body {
            document["requestBody"] = json!({ "required": true, "content": body });
        }
        if let Some(role) = operation.role {
            document["security"] = json!([{ "bearer": [] }]);
            document["x-role"] = json!(role.as_str());
        }
        document
    }

    /// The router, and the document of exactly its routes.
    pub(crate) fn finish(mut self) -> (Router<Arc<Api>>, Value) {
        let document = json!({
            "openapi": "3.1.0",
            "info": {
                "title": "keyrotate",
                "version": env!("CARGO_PKG_VERSION"),
                "description": "Jobs that change the encryption key of every object in a bucket.",
                "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
            },
            "paths": self.paths,
            "components": {
                "schemas": self.schemas.take_definitions(true),
                "securitySchemes": { "bearer": { "type": "http", "scheme": "bearer" } },
            },
        });
        (self.router, document)
    }
}
