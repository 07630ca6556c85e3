//! What runs for an operation. The contract says what is called how and by whom; routes say what then happens, and how much
//! of the server it may take.

use crate::answer::Answer;
use crate::bodies::Bodies;
use crate::call::{Call, Permitted};
use crate::problem::{Outcome, Problem};
use async_trait::async_trait;
use flowyte_contract::Parameters;
use flowyte_core::Contract;
use flowyte_store::Class;
use flowyte_verifier::usage::CredentialRef;
use http::request::Parts;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

/// What runs for an operation.
pub type Handler = Arc<dyn Fn(Permitted) -> Work + Send + Sync>;

/// The future of a handler that runs; it ends with the answer or a problem.
pub type Work = Pin<Box<dyn Future<Output = Outcome<Answer>> + Send>>;

/// When an operation costs much, however short the question: it walks along history or ranks all there is. An organization has one
/// turn at such operations at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cost {
    /// Never; a request takes no turn.
    Usual,
    /// Always; each request waits for its organization's turn.
    Dear,
    /// With one of these query parameters, for which all has to be looked through.
    DearWith(&'static [&'static str]),
}

/// One operation's handler, with what the gate has to know of it.
#[derive(Clone)]
pub struct Route {
    /// The `operationId` of the operation in the contract.
    pub operation: &'static str,
    /// How its writes wait beside those of others.
    pub class: Class,
    /// Which requests must wait for their organization's turn.
    pub cost: Cost,
    /// The function that runs once the request is permitted and checked against the contract.
    pub handler: Handler,
    /// What is added to a refusal of it.
    pub refused: fn(Problem) -> Problem,
}

impl Route {
    /// Marks it as one that costs much.
    pub fn dear(&mut self) -> &mut Self {
        self.cost = Cost::Dear;
        self
    }

    /// Marks it as one that costs much with one of these query parameters.
    pub fn dear_with(&mut self, parameters: &'static [&'static str]) -> &mut Self {
        self.cost = Cost::DearWith(parameters);
        self
    }

    /// Adds something to every refusal of it.
    pub fn refused(&mut self, add: fn(Problem) -> Problem) -> &mut Self {
        self.refused = add;
        self
    }

    /// Whether a request costs much.
    pub fn is_dear(&self, query: &Parameters) -> bool {
        match self.cost {
            Cost::Usual => false,
            Cost::Dear => true,
            Cost::DearWith(parameters) => parameters.iter().any(|it| query.get(it).is_some()),
        }
    }
}

/// The routes of handlers that share a state.
pub struct Routes<S> {
    state: Arc<S>,
    routes: Vec<Route>,
}

impl<S: Send + Sync + 'static> Routes<S> {
    /// A list without a route, whose handlers will share `state`.
    pub fn new(state: Arc<S>) -> Self {
        Self { state, routes: Vec::new() }
    }

    /// Adds an operation that takes rights away, or may: what it writes goes before all other writes.
    pub fn narrowing<F, R>(&mut self, operation: &'static str, handler: F) -> &mut Route
    where
        F: Fn(Call<S>) -> R + Send + Sync + 'static,
        R: Future<Output = Outcome<Answer>> + Send + 'static,
    {
        self.add(operation, Class::Narrowing, handler)
    }

    /// Adds an operation on credentials, people or organizations.
    pub fn credentials<F, R>(&mut self, operation: &'static str, handler: F) -> &mut Route
    where
        F: Fn(Call<S>) -> R + Send + Sync + 'static,
        R: Future<Output = Outcome<Answer>> + Send + 'static,
    {
        self.add(operation, Class::Credentials, handler)
    }

    /// Adds an operation of what the credentials open.
    pub fn product<F, R>(&mut self, operation: &'static str, handler: F) -> &mut Route
    where
        F: Fn(Call<S>) -> R + Send + Sync + 'static,
        R: Future<Output = Outcome<Answer>> + Send + 'static,
    {
        self.add(operation, Class::Product, handler)
    }

    fn add<F, R>(&mut self, operation: &'static str, class: Class, handler: F) -> &mut Route
    where
        F: Fn(Call<S>) -> R + Send + Sync + 'static,
        R: Future<Output = Outcome<Answer>> + Send + 'static,
    {
        let state = self.state.clone();
        let handler: Handler = Arc::new(move |request| Box::pin(handler(Call::new(state.clone(), request))));
        let at = self.routes.len();
        self.routes.push(Route { operation, class, cost: Cost::Usual, handler, refused: |problem| problem });
        &mut self.routes[at]
    }

    /// The routes in the order in which they were added.
    pub fn into_vec(self) -> Vec<Route> {
        self.routes
    }
}

/// A path that is no operation: what comes there proves itself otherwise than by a credential of ours, or speaks another protocol.
#[async_trait]
pub trait Extension: Send + Sync {
    /// The path of the requests that it answers, which must be the same to the letter.
    fn path(&self) -> &'static str;

    /// Answers a request whose head is in order.
    async fn answer(&self, request: Unauthorized<'_>) -> Outcome<Answer>;
}

/// A request that nobody has authorized.
pub struct Unauthorized<'r> {
    /// The head of the request as it was sent.
    pub parts: &'r Parts,
    /// The body, of which nothing has been read yet.
    pub body: Incoming,
    /// The memory for bodies, from which room for this one is to be taken before it is read.
    pub bodies: &'r Bodies,
    /// Its connection, for another protocol.
    pub upgrade: OnUpgrade,
    /// The caller's IP address, after the trusted-proxy rule.
    pub address: IpAddr,
    /// The credential that it turns out to be for, for the log.
    pub credential: &'r mut Option<CredentialRef>,
}

/// One route for each operation that is not reserved and no other, or what is too many and too few.
pub fn bind(contract: &Contract, routes: &[Route]) -> Result<Vec<Option<Route>>, Vec<String>> {
    let mut wrong = Vec::new();
    let bound = contract
        .operations()
        .iter()
        .map(|operation| {
            let mut found = routes.iter().filter(|it| it.operation == operation.id);
            let route = found.next().cloned();
            match (operation.reserved, &route) {
                (true, Some(_)) => {
                    wrong.push(format!("operation {} is reserved and has a handler", operation.id))
                }
                (false, None) => {
                    wrong.push(format!("operation {} has no handler and is not reserved", operation.id))
                }
                _ if found.next().is_some() => {
                    wrong.push(format!("operation {} has two handlers", operation.id))
                }
                _ => {}
            }
            route
        })
        .collect();
    for id in routes.iter().map(|it| it.operation) {
        if !contract.operations().iter().any(|it| it.id == *id) {
            wrong.push(format!("there is a handler for {id}, which the contract does not declare"));
        }
    }
    if wrong.is_empty() { Ok(bound) } else { Err(wrong) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flowyte_core::{Operation, Requirement, ScopeTable};

    #[test]
    fn a_handler_too_many_or_too_few_is_named() {
        let mut routes = Routes::new(Arc::new(()));
        for id in ["mint", "list", "gone"] {
            routes.credentials(id, |_| async { Ok(Answer::nothing()) });
        }
        let routes = routes.into_vec();
        let operation = |id: &str| Operation::new(id, "GET", &format!("/{id}"), Requirement::Public);
        let contract = |operations| Contract::new(operations, ScopeTable::default()).ok().unwrap();
        assert!(
            bind(&contract(vec![operation("mint"), operation("list"), operation("gone")]), &routes).is_ok()
        );
        let mut reserved = operation("list");
        reserved.reserved = true;
        let wrong = bind(&contract(vec![operation("mint"), reserved, operation("unserved")]), &routes);
        let wrong = wrong.err().unwrap();
        for part in
            ["gone, which the contract does not declare", "list is reserved", "unserved has no handler"]
        {
            assert!(wrong.iter().any(|it| it.contains(part)), "{part}: {wrong:?}");
        }
        assert_eq!(wrong.len(), 3, "{wrong:?}");
    }
}
