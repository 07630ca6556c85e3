//! One operation of the document: what core must know of it, and its checks.

use crate::checks::{self, Checks, Place, TextKind};
use crate::diagnostic::Findings;
use crate::document::{Document, Node};
use crate::field::quoted;
use crate::schema::Compiler;
use crate::security::Security;
use flowyte_core::{CredentialKind, Operation, path};
use serde_json::Value;

const FIELDS: [&str; 12] = [
    "tags",
    "summary",
    "description",
    "externalDocs",
    "operationId",
    "parameters",
    "requestBody",
    "responses",
    "callbacks",
    "deprecated",
    "security",
    "servers",
];
const ITEM_FIELDS: [&str; 5] = ["$ref", "summary", "description", "servers", "parameters"];
/// The matcher compares operations in pairs.
const MOST_OPERATIONS: usize = 4_000;

/// What is the same for all operations of a document.
pub(crate) struct Shared<'d> {
    pub(crate) document: &'d Document,
    pub(crate) security: Security<'d>,
    pub(crate) compiler: Compiler<'d>,
    pub(crate) base: String,
}

/// Reads every operation in document order; those that can't be read are reported and left out.
pub(crate) fn read_all(shared: &Shared<'_>, findings: &mut Findings) -> Vec<(Operation, Checks)> {
    let mut found = Vec::new();
    let Some(paths) = shared.document.top().get("paths").filter(|paths| paths.value.is_object()) else {
        findings.error("#/paths", "the document declares no paths");
        return found;
    };
    let mut ids: std::collections::HashSet<&str> = std::collections::HashSet::new();
    let mut count = 0;
    for (template, item) in paths.members().filter(|(template, _)| !template.starts_with("x-")) {
        let Some(item) = shared.document.resolve(item) else { continue };
        check_template(template, &item, findings);
        for (method, operation) in item.members() {
            if !crate::extension::METHODS.contains(&method) {
                if !ITEM_FIELDS.contains(&method) && !method.starts_with("x-") {
                    let message = format!("`{}` is neither a method nor a field of a path", quoted(method));
                    findings.error(&operation.pointer, message);
                }
                continue;
            }
            count += 1;
            if count > MOST_OPERATIONS {
                findings.error("#/paths", format!("more than {MOST_OPERATIONS} operations"));
                return found;
            }
            if let Some(id) = operation.text("operationId")
                && !ids.insert(id)
            {
                findings.error(id, format!("operationId `{}` is used twice", quoted(id)));
                continue;
            }
            let reader = Reader { shared, item: &item, operation, template, method };
            found.extend(reader.read(findings));
        }
    }
    found
}

fn check_template(template: &str, item: &Node<'_>, findings: &mut Findings) {
    if item.get("servers").is_some() {
        findings
            .error(&item.pointer, "`servers` of a path is not supported; the base path is the document's");
    }
    if !template.starts_with('/') {
        findings.error(&item.pointer, "a path must begin with `/`");
    } else if template_names(template).is_none() {
        findings.error(&item.pointer, "a path's braces must hold one name each, such as `{id}`");
    } else if let Err(why) = path::check(&literal(template)) {
        // The matcher never sees such a URL, so the operation could never be called.
        findings.error(&item.pointer, format!("no request can match this path. {}", why.explain()));
    }
}

/// The template with a letter for each parameter.
fn literal(template: &str) -> String {
    let mut text = String::new();
    let mut inside = false;
    for c in template.chars() {
        match c {
            '{' => inside = true,
            '}' => {
                inside = false;
                text.push('x');
            }
            _ if inside => {}
            _ => text.push(c),
        }
    }
    text
}

/// The parameters of a template; `None` when its braces can't be read.
fn template_names(template: &str) -> Option<Vec<&str>> {
    let mut names = Vec::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}')?;
        let word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
        if before.contains('}') || name.is_empty() || !name.chars().all(word) || names.contains(&name) {
            return None;
        }
        names.push(name);
        rest = after;
    }
    (!rest.contains('}')).then_some(names)
}

struct Reader<'s, 'd> {
    shared: &'s Shared<'d>,
    item: &'s Node<'d>,
    operation: Node<'d>,
    template: &'d str,
    method: &'d str,
}

struct Parameter<'d> {
    name: &'d str,
    place: &'d str,
    node: Node<'d>,
}

impl<'d> Reader<'_, 'd> {
    fn read(&self, findings: &mut Findings) -> Option<(Operation, Checks)> {
        let id = match self.operation.text("operationId") {
            Some(id) if !id.trim().is_empty() && id.len() <= 200 && !id.contains(char::is_control) => {
                id.to_owned()
            }
            given => {
                let place = format!("{} {}", self.method.to_uppercase(), self.template);
                let message = match given {
                    None => "`operationId` is missing",
                    Some(_) => "`operationId` must be 1 to 200 characters on one line",
                };
                findings.error(&place, message);
                place
            }
        };
        self.check_fields(&id, findings);
        let parameters = self.parameters(&id, findings);
        self.check_path_parameters(&id, &parameters, findings);
        let requirement = self.shared.security.requirement(&id, &self.operation, findings);
        let checks = self.checks(&id, &parameters, findings);
        let template = format!("{}{}", self.shared.base, self.template);
        let mut operation = Operation::new(&id, &self.method.to_uppercase(), &template, requirement?);
        operation.reserved = self.switch("x-reserved");
        operation.fresh_session = self.switch("x-fresh-session");
        operation.cors = self.switch("x-cors");
        operation.pinned_parameter =
            self.named(&id, "x-pinned-parameter", &["path", "query"], &parameters, findings);
        operation.query_credential = self.named(&id, "x-query-credential", &["query"], &parameters, findings);
        if operation.fresh_session && !operation.takes(CredentialKind::Session) {
            findings.error(&id, "`x-fresh-session` asks for a session, and the operation takes none");
        }
        if operation.query_credential.is_some() && !operation.takes(CredentialKind::PublishableKey) {
            findings
                .error(&id, "`x-query-credential` carries a publishable key, and the operation takes none");
        }
        Some((operation, checks))
    }

    fn switch(&self, name: &str) -> bool {
        self.operation.value.get(name) == Some(&Value::Bool(true))
    }

    /// The parameter that an extension names.
    fn named(
        &self,
        id: &str,
        extension: &str,
        places: &[&str],
        parameters: &[Parameter<'d>],
        findings: &mut Findings,
    ) -> Option<String> {
        let given = self.operation.value.get(extension)?;
        let name = given.as_str().unwrap_or_default();
        if !parameters.iter().any(|it| it.name == name && places.contains(&it.place)) {
            let message = format!("`{extension}` must name a declared {} parameter", places.join(" or "));
            findings.error(id, message);
            return None;
        }
        Some(name.into())
    }

    fn check_fields(&self, id: &str, findings: &mut Findings) {
        if !self.operation.value.is_object() {
            findings.error(id, "an operation must be an object");
        }
        for (name, _) in self.operation.members() {
            if !FIELDS.contains(&name) && !name.starts_with("x-") {
                // `securty` would fall back to the root's rule in silence.
                findings.error(id, format!("`{}` is not a field of an operation", quoted(name)));
            }
        }
        if self.method == "head" {
            findings.error(id, "HEAD is answered by GET; declare GET only");
        }
        if self.operation.get("servers").is_some() {
            findings.error(id, "`servers` of an operation is not supported; the base path is the document's");
        }
    }

    /// The path's parameters and the operation's own, which replace those of the same name and place.
    fn parameters(&self, id: &str, findings: &mut Findings) -> Vec<Parameter<'d>> {
        let mut all: Vec<Parameter<'d>> = Vec::new();
        for owner in [self.item, &self.operation] {
            let Some(list) = owner.get("parameters") else { continue };
            if !list.value.is_array() {
                findings.error(id, "`parameters` must be a list");
            }
            let mut own: Vec<Parameter<'d>> = Vec::new();
            for node in list.items() {
                let Some(node) = self.shared.document.resolve(node) else { continue };
                let (Some(name), Some(place)) = (node.text("name"), node.text("in")) else {
                    findings.error(id, "a parameter must have `name` and `in`");
                    continue;
                };
                if !["path", "query", "header", "cookie"].contains(&place) {
                    findings.error(
                        id,
                        format!("parameter `{}` must be in path, query, header or cookie", quoted(name)),
                    );
                }
                if own.iter().any(|it| it.name == name && it.place == place) {
                    findings.error(id, format!("parameter `{}` is declared twice", quoted(name)));
                    continue;
                }
                own.push(Parameter { name, place, node });
            }
            all.retain(|it| !own.iter().any(|mine| mine.name == it.name && mine.place == it.place));
            all.extend(own);
        }
        all
    }

    fn check_path_parameters(&self, id: &str, parameters: &[Parameter<'d>], findings: &mut Findings) {
        let names = template_names(self.template).unwrap_or_default();
        for name in &names {
            match parameters.iter().find(|it| it.place == "path" && it.name == *name) {
                None => findings.error(id, format!("path parameter `{}` is not declared", quoted(name))),
                Some(it) if it.node.value.get("required") != Some(&Value::Bool(true)) => {
                    findings
                        .error(id, format!("path parameter `{}` must say `required: true`", quoted(name)));
                }
                Some(_) => {}
            }
        }
        for it in parameters.iter().filter(|it| it.place == "path" && !names.contains(&it.name)) {
            findings.error(id, format!("path parameter `{}` is not in the path", quoted(it.name)));
        }
    }
}

impl<'d> Reader<'_, 'd> {
    fn checks(&self, id: &str, parameters: &[Parameter<'d>], findings: &mut Findings) -> Checks {
        let (success_status, sse) = self.success(id, findings);
        let checked = parameters.iter().filter_map(|it| Some((self.place(id, it, findings)?, it)));
        let checked: Vec<_> = checked.collect();
        let checked =
            checked.into_iter().map(|(place, it)| self.parameter(id, place, it, findings)).collect();
        let mut checks = Checks {
            success_status,
            idempotent: parameters
                .iter()
                .any(|it| it.place == "header" && it.name.eq_ignore_ascii_case("Idempotency-Key")),
            has_body: false,
            body_required: false,
            max_body_bytes: self.max_body_bytes(id, findings),
            content_type: None,
            sse,
            parameters: checked,
            body: None,
            body_schema: None,
        };
        let body = self.operation.get("requestBody").and_then(|body| self.shared.document.resolve(body));
        if let Some(body) = body {
            checks.has_body = true;
            checks.body_required = body.value.get("required") == Some(&Value::Bool(true));
            self.read_body(id, &body, &mut checks, findings);
        }
        checks
    }

    fn read_body(&self, id: &str, body: &Node<'d>, checks: &mut Checks, findings: &mut Findings) {
        let types: Vec<_> = body.get("content").iter().flat_map(Node::members).collect();
        let json = types.iter().find(|(name, _)| is_json(name));
        let Some((name, media)) = json.or(types.first()) else {
            return findings.error(id, "`requestBody` must say in `content` what it is");
        };
        checks.content_type = Some((*name).into());
        if json.is_none() {
            return;
        }
        let Some(schema) = media.get("schema") else {
            return findings.warning(id, "the body has no schema; any JSON will do");
        };
        match self.shared.compiler.compile(&schema) {
            Ok(validator) => {
                checks.body = Some(validator);
                checks.body_schema = Some(schema.pointer);
            }
            Err(message) => findings.error(id, format!("the schema of the body can't be used: {message}")),
        }
    }

    /// Where a parameter is checked; `None` where nothing checks it.
    fn place(&self, id: &str, it: &Parameter<'d>, findings: &mut Findings) -> Option<Place> {
        // OpenAPI 3.1, Parameter Object: these are the security scheme's and the media types' to describe.
        let described_elsewhere = ["Accept", "Content-Type", "Authorization"];
        match it.place {
            "path" => Some(Place::Path),
            "query" => Some(Place::Query),
            "header" if described_elsewhere.iter().any(|name| it.name.eq_ignore_ascii_case(name)) => None,
            "header" => Some(Place::Header),
            _ => {
                findings.warning(id, format!("cookie parameter `{}` is not checked", quoted(it.name)));
                None
            }
        }
    }

    fn parameter(
        &self,
        id: &str,
        place: Place,
        it: &Parameter<'d>,
        findings: &mut Findings,
    ) -> checks::Parameter {
        let what = place.as_str();
        let schema = it.node.get("schema");
        let kind = match &schema {
            Some(schema) => self.text_kind(schema, 0),
            None => TextKind::Composite,
        };
        let mut parameter = checks::Parameter {
            place,
            name: it.name.into(),
            required: it.node.value.get("required") == Some(&Value::Bool(true)),
            kind,
            default: None,
            schema: None,
            pointer: schema.as_ref().map_or_else(|| it.node.pointer.clone(), |schema| schema.pointer.clone()),
        };
        let Some(schema) = schema.filter(|_| kind != TextKind::Composite) else {
            let message =
                format!("{what} parameter `{}` is not one plain value and is not checked", quoted(it.name));
            findings.warning(id, message);
            return parameter;
        };
        match self.shared.compiler.compile(&schema) {
            Ok(validator) => {
                let default =
                    self.shared.document.resolve(schema).and_then(|schema| schema.value.get("default"));
                if let Some(default) = default {
                    if !validator.is_valid(default) {
                        findings.error(
                            id,
                            format!(
                                "the default of {what} parameter `{}` breaks its schema",
                                quoted(it.name)
                            ),
                        );
                    }
                    parameter.default = match default {
                        Value::Null => None,
                        Value::String(text) => Some(text.clone()),
                        other => Some(other.to_string()),
                    };
                }
                parameter.schema = Some(validator);
            }
            Err(message) => {
                let name = quoted(it.name);
                findings
                    .error(id, format!("the schema of {what} parameter `{name}` can't be used: {message}"));
            }
        }
        parameter
    }

    /// How a parameter's text is read: by the type its schema says, in the first place that says one.
    fn text_kind(&self, schema: &Node<'d>, depth: usize) -> TextKind {
        let Some(schema) = self.shared.document.resolve(schema.clone()) else { return TextKind::Text };
        let types = match schema.value.get("type") {
            Some(Value::String(one)) => vec![one.as_str()],
            Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
            _ => vec![],
        };
        let kinds = [
            ("array", TextKind::Composite),
            ("object", TextKind::Composite),
            ("string", TextKind::Text),
            ("number", TextKind::Number),
            ("integer", TextKind::Integer),
            ("boolean", TextKind::Boolean),
        ];
        if let Some((_, kind)) = kinds.into_iter().find(|(name, _)| types.contains(name)) {
            return kind;
        }
        let parts = ["allOf", "anyOf", "oneOf"].iter().filter_map(|name| schema.get(name));
        let mut parts = parts.flat_map(|list| list.items().collect::<Vec<_>>());
        parts.find(|_| depth < 8).map_or(TextKind::Text, |part| self.text_kind(&part, depth + 1))
    }

    fn max_body_bytes(&self, id: &str, findings: &mut Findings) -> Option<u64> {
        let given = self.operation.value.get("x-max-body-bytes")?;
        let bytes = given.as_u64().filter(|bytes| *bytes > 0);
        if bytes.is_none() {
            findings.error(id, "`x-max-body-bytes` must be a positive whole number");
        }
        bytes
    }

    /// The smallest status of success, and whether a success is a stream of events.
    fn success(&self, id: &str, findings: &mut Findings) -> (u16, bool) {
        let mut statuses = Vec::new();
        let mut sse = false;
        for (status, response) in self.operation.get("responses").iter().flat_map(Node::members) {
            let code = match status {
                "2XX" => Some(200),
                _ => status.parse::<u16>().ok().filter(|code| status.len() == 3 && (100..600).contains(code)),
            };
            let other = status == "default"
                || status.starts_with("x-")
                || ["1XX", "3XX", "4XX", "5XX"].contains(&status);
            if code.is_none() && !other {
                findings.error(id, format!("`{}` is not a status", quoted(status)));
            }
            let Some(code) = code.filter(|code| (200..400).contains(code)) else { continue };
            statuses.push(code);
            let content = self.shared.document.resolve(response).and_then(|response| response.get("content"));
            sse |= code < 300
                && content
                    .iter()
                    .flat_map(Node::members)
                    .any(|(name, _)| media_type(name) == "text/event-stream");
        }
        match statuses.into_iter().min() {
            Some(status) => (status, sse),
            None => {
                findings.warning(id, "no success is declared; 200 is assumed");
                (200, sse)
            }
        }
    }
}

/// A media type without its parameters, in lower case.
fn media_type(name: &str) -> String {
    name.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn is_json(name: &str) -> bool {
    let name = media_type(name);
    name == "application/json" || name.ends_with("+json")
}
