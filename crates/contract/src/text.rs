//! Text into values, strictly: one meaning or none, and never more work than the text is worth.

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::cell::Cell;
use std::fmt;

/// Levels of arrays and objects that a JSON body may have.
const BODY_DEPTH: usize = 64;
/// Values of all kinds that it may have.
const BODY_VALUES: usize = 50_000;
/// Levels of a document; schemas nest deeper than what they describe.
const DOCUMENT_DEPTH: usize = 100;
const DOCUMENT_BYTES: usize = 4 << 20;
/// Values and bytes of text in a document after its aliases are expanded.
const DOCUMENT_VALUES: usize = 400_000;
const DOCUMENT_TEXT: usize = 16 << 20;

/// Reads one JSON text (RFC 8259). Refuses duplicate members, a BOM, what follows the value, bytes that are not UTF-8,
/// numbers outside of what a double holds, and more than 64 levels. The message is at most one line.
pub(crate) fn json(bytes: &[u8]) -> Result<Value, String> {
    // Its text is bounded by its length already. Each value takes some fifty bytes of memory, and may be two bytes long.
    read_json(bytes, &Budget::new(BODY_VALUES, bytes.len(), BODY_DEPTH))
}

fn read_json(bytes: &[u8], budget: &Budget) -> Result<Value, String> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Strict { budget, depth: 0 }.deserialize(&mut reader).map_err(|error| error.to_string())?;
    reader.end().map_err(|error| error.to_string())?;
    Ok(value)
}

/// Reads a document: JSON when it begins with `{`, else YAML 1.2.
pub(crate) fn document(text: &str) -> Result<Value, String> {
    if text.len() > DOCUMENT_BYTES {
        return Err(format!("the document is longer than {DOCUMENT_BYTES} bytes"));
    }
    let budget = Budget::new(DOCUMENT_VALUES, DOCUMENT_TEXT, DOCUMENT_DEPTH);
    if text.trim_start().starts_with('{') {
        return read_json(text.as_bytes(), &budget).map_err(|error| format!("not JSON: {error}"));
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: DOCUMENT_DEPTH + 1,
            max_documents: 1,
            max_nodes: DOCUMENT_VALUES,
            max_total_scalar_bytes: DOCUMENT_TEXT,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: DOCUMENT_VALUES },
        // `on` and `yes` are words in YAML 1.2, and `get` of a path item is never one of them.
        strict_booleans: true,
        with_snippet: false,
    };
    serde_saphyr::with_deserializer_from_str_with_options(text, options, |reader| {
        Strict { budget: &budget, depth: 0 }.deserialize(reader)
    })
    .map_err(|error| format!("not YAML: {error}"))
}

/// What is left to spend on one text. Aliases are charged like what they stand for.
struct Budget {
    values: Cell<usize>,
    text: Cell<usize>,
    depth: usize,
}

impl Budget {
    fn new(values: usize, text: usize, depth: usize) -> Self {
        Self { values: Cell::new(values), text: Cell::new(text), depth }
    }

    fn spend<E: Error>(&self, text: usize) -> Result<(), E> {
        for (purse, amount) in [(&self.values, 1), (&self.text, text)] {
            let left = purse.get().checked_sub(amount);
            purse.set(
                left.ok_or_else(|| {
                    E::custom("more values or text than are accepted, with aliases expanded")
                })?,
            );
        }
        Ok(())
    }
}

/// Builds a [`Value`] at some depth, within a budget.
#[derive(Clone, Copy)]
struct Strict<'b> {
    budget: &'b Budget,
    depth: usize,
}

impl Strict<'_> {
    fn inner<E: Error>(self) -> Result<Self, E> {
        if self.depth == self.budget.depth {
            return Err(E::custom(format_args!("more than {} levels of nesting", self.budget.depth)));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        self.budget.spend(0)?;
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        self.budget.spend(0)?;
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        self.budget.spend(0)?;
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        self.budget.spend(0)?;
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("a number that JSON can't express"))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        self.budget.spend(value.len())?;
        Ok(Value::String(value.to_owned()))
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        self.budget.spend(0)?;
        Ok(Value::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Value, E> {
        self.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        self.budget.spend(0)?;
        let inner = self.inner()?;
        let mut items = Vec::new();
        while let Some(item) = access.next_element_seed(inner)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        self.budget.spend(0)?;
        let inner = self.inner()?;
        let mut members = Map::new();
        while let Some(name) = access.next_key::<String>()? {
            self.budget.spend(name.len())?;
            let value = access.next_value_seed(inner)?;
            if members.contains_key(&name) {
                return Err(A::Error::custom(format_args!(
                    "member `{}` appears twice in one object",
                    crate::field::quoted(&name)
                )));
            }
            members.insert(name, value);
        }
        Ok(Value::Object(members))
    }
}
