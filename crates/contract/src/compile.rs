//! From the document to operations with rules, saying everything that is wrong at once.

use crate::Diagnostic;
use crate::request::{Checks, QueryParameter};
use flowyte_core::authorize::Alternative;
use flowyte_core::scope::ScopeInfo;
use flowyte_core::{Contract, CredentialKind, Operation, Requirement, Role, ScopeTable};
use jsonschema::{PatternOptions, Validator};
use serde_json::{Map, Value, json};

/// A larger document is refused unread.
const LARGEST: usize = 4 << 20;
const METHODS: [&str; 8] = ["get", "put", "post", "delete", "patch", "head", "options", "trace"];
/// Our own extensions of an operation. Another `x-` word that begins like one of them is a slip of the pen.
const EXTENSIONS: [&str; 6] =
    ["x-public", "x-reserved", "x-fresh-session", "x-agent-parameter", "x-query-credential", "x-cors"];

/// A compiled document.
pub struct Api {
    pub(crate) contract: Contract,
    /// The checks of each operation, in the contract's order.
    pub checks: Vec<Checks>,
    /// The document as JSON, to be served.
    pub document: Value,
}

/// Compiles a YAML or JSON text, or says all that is wrong with it.
pub fn compile(text: &str) -> Result<Api, Vec<Diagnostic>> {
    let document = read(text).map_err(|message| vec![Diagnostic { place: "document".into(), message }])?;
    let mut compiler =
        Compiler { document: &document, scopes: ScopeTable::default(), diagnostics: Vec::new() };
    let compiled = compiler.run();
    let diagnostics = compiler.diagnostics;
    match compiled {
        Some((contract, checks)) if diagnostics.is_empty() => Ok(Api { contract, checks, document }),
        _ => Err(diagnostics),
    }
}

fn read(text: &str) -> Result<Value, String> {
    if text.len() > LARGEST {
        return Err(format!("larger than {LARGEST} bytes"));
    }
    let document: Value = serde_saphyr::from_str(text).map_err(|error| {
        let first = error.to_string();
        first.lines().next().unwrap_or("not YAML or JSON").to_owned()
    })?;
    match document["openapi"].as_str() {
        Some(version) if version.starts_with("3.1.") => Ok(document),
        Some(version) => Err(format!("openapi is {version}; 3.1 is what this compiler reads")),
        None => Err("not an OpenAPI document: it has no `openapi: 3.1.0`".into()),
    }
}

struct Compiler<'d> {
    document: &'d Value,
    scopes: ScopeTable,
    diagnostics: Vec<Diagnostic>,
}

impl<'d> Compiler<'d> {
    fn complain(&mut self, place: &str, message: impl Into<String>) {
        self.diagnostics.push(Diagnostic { place: place.into(), message: message.into() });
    }

    fn run(&mut self) -> Option<(Contract, Vec<Checks>)> {
        self.scopes = self.scope_table();
        let base = self.document["servers"][0]["url"].as_str().unwrap_or("").trim_end_matches('/');
        if !base.is_empty() && !base.starts_with('/') {
            self.complain(
                "servers",
                "the first server's url must be a path like /api/v1: routes are served from here",
            );
        }
        let (mut operations, mut checks) = (Vec::new(), Vec::new());
        for (path, item) in self.document["paths"].as_object().into_iter().flatten() {
            for (method, operation) in item.as_object().into_iter().flatten() {
                if !METHODS.contains(&method.as_str()) {
                    if !matches!(method.as_str(), "parameters" | "summary" | "description")
                        && !method.starts_with("x-")
                    {
                        self.complain(path, format!("{method} is no method"));
                    }
                    continue;
                }
                let place = format!("{} {path}", method.to_uppercase());
                let parameters =
                    self.parameters(&place, path, &[&item["parameters"], &operation["parameters"]]);
                operations.push(self.operation(
                    &place,
                    method,
                    &format!("{base}{path}"),
                    operation,
                    &parameters,
                ));
                checks.push(self.checks(&place, operation, &parameters));
            }
        }
        if operations.is_empty() {
            self.complain("paths", "no operation is declared");
        }
        match Contract::new(operations, self.scopes.clone()) {
            Ok(contract) => Some((contract, checks)),
            Err(errors) => {
                errors.iter().for_each(|error| self.complain("paths", error.to_string()));
                None
            }
        }
    }

    fn scope_table(&mut self) -> ScopeTable {
        let mut infos = Vec::new();
        for (name, info) in self.document["x-scopes"].as_object().into_iter().flatten() {
            let words = |field: &str| -> Vec<&str> {
                info[field].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
            };
            let holders = words("holders");
            if let Some(stranger) =
                holders.iter().find(|it| !["secret_key", "publishable_key", "role"].contains(it))
            {
                self.complain("x-scopes", format!("{name}: {stranger} is no holder"));
            }
            let roles: Vec<Option<Role>> = words("roles").into_iter().map(Role::parse).collect();
            if roles.contains(&None) {
                self.complain("x-scopes", format!("{name}: roles are owner, admin, developer and viewer"));
            }
            infos.push(ScopeInfo {
                name: name.clone(),
                description: info["description"].as_str().unwrap_or_default().into(),
                for_secret_keys: holders.contains(&"secret_key"),
                for_publishable_keys: holders.contains(&"publishable_key"),
                roles: roles.into_iter().flatten().collect(),
            });
        }
        ScopeTable::new(infos).unwrap_or_else(|error| {
            self.complain("x-scopes", error.to_string());
            ScopeTable::default()
        })
    }

    fn operation(
        &mut self,
        place: &str,
        method: &str,
        template: &str,
        it: &Value,
        parameters: &[&'d Value],
    ) -> Operation {
        let id = it["operationId"].as_str().unwrap_or_default();
        if id.is_empty() {
            self.complain(place, "has no operationId");
        }
        for name in it.as_object().into_iter().flat_map(Map::keys).filter(|name| name.starts_with("x-")) {
            let near = EXTENSIONS.iter().find(|known| name != *known && name.get(..6) == known.get(..6));
            if let (false, Some(near)) = (EXTENSIONS.contains(&name.as_str()), near) {
                self.complain(place, format!("{name} means nothing here; {near} was meant?"));
            }
        }
        let requirement = self.requirement(place, it);
        let mut operation = Operation::new(id, &method.to_uppercase(), template, requirement);
        operation.reserved = self.flag(place, it, "x-reserved");
        operation.fresh_session = self.flag(place, it, "x-fresh-session");
        operation.cors = self.flag(place, it, "x-cors");
        operation.agent_parameter = self.names_parameter(place, it, "x-agent-parameter", parameters);
        operation.query_credential = self.names_parameter(place, it, "x-query-credential", parameters);
        operation
    }

    fn flag(&mut self, place: &str, it: &Value, name: &str) -> bool {
        match &it[name] {
            Value::Null => false,
            Value::Bool(flag) => *flag,
            _ => {
                self.complain(place, format!("{name} must be true or false"));
                false
            }
        }
    }

    fn names_parameter(
        &mut self,
        place: &str,
        it: &Value,
        extension: &str,
        parameters: &[&Value],
    ) -> Option<String> {
        let name = it[extension].as_str()?;
        let declared = parameters.iter().any(|own| own["name"] == *name && own["in"] != "header");
        if !declared {
            self.complain(
                place,
                format!("{extension} names {name}, which is no declared path or query parameter"),
            );
        }
        Some(name.to_owned())
    }

    /// Nothing is public by omission: `security: []` needs `x-public: true` beside it, and no security at all is an error.
    fn requirement(&mut self, place: &str, it: &Value) -> Requirement {
        let public = self.flag(place, it, "x-public");
        let security = if it["security"].is_null() { &self.document["security"] } else { &it["security"] };
        let Some(listed) = security.as_array() else {
            self.complain(place, "has no rule: say `security`, or `security: []` with `x-public: true`");
            return Requirement::Credential(vec![]);
        };
        match (public, listed.is_empty()) {
            (true, true) => return Requirement::Public,
            (true, false) => self.complain(place, "x-public: true contradicts its security"),
            (false, true) => {
                self.complain(place, "security: [] opens it to anybody; say x-public: true if that is meant")
            }
            (false, false) => {}
        }
        let alternatives: Vec<Alternative> =
            listed.iter().filter_map(|one| self.alternative(place, one)).collect();
        if alternatives.is_empty() && !listed.is_empty() {
            self.complain(place, "none of its security alternatives can be used");
        }
        Requirement::Credential(alternatives)
    }

    fn alternative(&mut self, place: &str, it: &Value) -> Option<Alternative> {
        let schemes = it.as_object()?;
        let (Some((name, names)), 1) = (schemes.iter().next(), schemes.len()) else {
            self.complain(
                place,
                "each security alternative names exactly one scheme: a caller presents one credential",
            );
            return None;
        };
        let kind = self.document["components"]["securitySchemes"][name]["x-credential"].as_str();
        let Some(kind) = CredentialKind::ALL.into_iter().find(|known| Some(known.as_str()) == kind) else {
            self.complain(
                place,
                format!("security scheme {name} is not declared with an x-credential this compiler knows"),
            );
            return None;
        };
        let mut scopes = flowyte_core::ScopeSet::EMPTY;
        for name in names.as_array().into_iter().flatten() {
            match name.as_str().and_then(|name| self.scopes.find(name)) {
                Some(scope) => scopes = scopes.with(scope),
                None => {
                    self.complain(place, format!("scope {name} is not declared in x-scopes"));
                    return None;
                }
            }
        }
        Some(Alternative { kind, scopes })
    }

    /// The operation's parameters, references followed. Path parameters and template must agree.
    fn parameters(&mut self, place: &str, path: &str, lists: &[&'d Value]) -> Vec<&'d Value> {
        let mut found = Vec::new();
        for one in lists.iter().filter_map(|list| list.as_array()).flatten() {
            match self.follow(one) {
                Some(parameter) if parameter["name"].is_string() && parameter["in"].is_string() => {
                    found.push(parameter)
                }
                _ => self.complain(place, "a parameter's $ref leads nowhere, or it lacks `name` or `in`"),
            }
        }
        let in_template: Vec<&str> =
            path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
        let declared: Vec<&str> =
            found.iter().filter(|it| it["in"] == "path").filter_map(|it| it["name"].as_str()).collect();
        for name in in_template.iter().filter(|name| !declared.contains(name)) {
            self.complain(place, format!("path parameter {name} is not declared"));
        }
        for name in declared.iter().filter(|name| !in_template.contains(name)) {
            self.complain(place, format!("parameter {name} does not stand in the path"));
        }
        found
    }

    /// Only references within the document exist.
    fn follow(&self, it: &'d Value) -> Option<&'d Value> {
        match it.get("$ref") {
            None => Some(it),
            Some(reference) => self.document.pointer(reference.as_str()?.strip_prefix('#')?),
        }
    }

    fn checks(&mut self, place: &str, it: &'d Value, parameters: &[&'d Value]) -> Checks {
        let success = it["responses"]
            .as_object()
            .into_iter()
            .flat_map(Map::keys)
            .find_map(|status| status.parse::<u16>().ok().filter(|code| (200..300).contains(code)));
        if success.is_none() {
            self.complain(place, "declares no success status");
        }
        let request = &it["requestBody"];
        let schema = &request["content"]["application/json"]["schema"];
        let body = if schema.is_null() { None } else { self.validator(place, schema) };
        let mut query = Vec::new();
        for parameter in parameters.iter().filter(|own| own["in"] == "query") {
            let Some(schema) = self.validator(place, &parameter["schema"]) else { continue };
            query.push(QueryParameter {
                name: parameter["name"].as_str().unwrap_or_default().into(),
                required: parameter["required"] == true,
                is_integer: parameter["schema"]["type"] == "integer",
                default: match &parameter["schema"]["default"] {
                    Value::Null => None,
                    Value::String(text) => Some(text.clone()),
                    other => Some(other.to_string()),
                },
                schema,
            });
        }
        let is_idempotency_key = |own: &&Value| own["in"] == "header" && own["name"] == "Idempotency-Key";
        Checks {
            success_status: success.unwrap_or(200),
            idempotent: parameters.iter().any(is_idempotency_key),
            has_body: !request.is_null(),
            body_required: request["required"] == true,
            body,
            query,
        }
    }

    fn validator(&mut self, place: &str, schema: &Value) -> Option<Validator> {
        // References are resolved within the document's components; the library fetches nothing with default features off.
        let whole =
            json!({"allOf": [schema], "components": {"schemas": self.document["components"]["schemas"]}});
        jsonschema::options()
            .with_draft(jsonschema::Draft::Draft202012)
            .with_pattern_options(PatternOptions::regex())
            .should_validate_formats(true)
            .build(&whole)
            .map_err(|error| self.complain(place, format!("its schema can't be used: {error}")))
            .ok()
    }
}
