//! The handler of each operation. The contract says what is called how and by whom; this table says what then runs.

mod agents;
mod audit;
mod billing;
pub mod chat;
mod chat_sessions;
pub mod completions;
mod identity;
mod keys;
mod knowledge;
mod numbers;
mod observe;
pub mod organization;
mod publishable;
mod session;
mod simulate;
mod skills;
mod talk;
mod uploads;
mod widget;

use crate::answer::Answer;
use crate::call::Call;
use crate::problem::Outcome;
use flowyte_contract::Parameters;
use flowyte_core::Contract;
use std::pin::Pin;

/// What runs for an operation.
pub type Handler = fn(Call) -> Pin<Box<dyn Future<Output = Outcome<Answer>> + Send>>;

macro_rules! handlers {
    ($($operation:literal => $module:ident::$function:ident,)*) => {
        const HANDLERS: &[(&str, Handler)] = &[$(($operation, |call| Box::pin($module::$function(call)))),*];
    };
}

handlers! {
    "setup" => session::setup,
    "signup" => session::signup,
    "login" => session::login,
    "logout" => session::logout,
    "getSession" => session::get,
    "listSessions" => session::list,
    "endSession" => session::end,
    "switchOrganization" => session::switch,
    "changePassword" => session::change_password,
    "recoverAccount" => session::recover,
    "createRecoveryLink" => organization::recovery_link,
    "readInvite" => session::read_invite,
    "acceptInvite" => session::accept_invite,
    "createOrganization" => organization::create,
    "getOrganization" => organization::get,
    "updateOrganization" => organization::update,
    "listMembers" => organization::members,
    "updateMember" => organization::update_member,
    "removeMember" => organization::remove_member,
    "listInvites" => organization::invites,
    "createInvite" => organization::invite,
    "withdrawInvite" => organization::withdraw_invite,
    "listApiKeys" => keys::list,
    "mintApiKey" => keys::mint,
    "getApiKey" => keys::get,
    "updateApiKey" => keys::update,
    "rotateApiKey" => keys::rotate,
    "revokeApiKey" => keys::revoke,
    "getApiKeyUsage" => keys::usage,
    "getApiKeyScopeAdvice" => keys::scope_advice,
    "whoami" => identity::whoami,
    "listScopes" => identity::scopes,
    "listAuditEvents" => audit::list,
    "verifyAuditEvents" => audit::verify,
    "listAgents" => agents::list,
    "createAgent" => agents::create,
    "getAgent" => agents::get,
    "updateAgent" => agents::update,
    "deleteAgent" => agents::delete,
    "publishAgent" => agents::publish,
    "rollbackAgent" => agents::rollback,
    "listAgentVersions" => agents::versions,
    "diffAgentVersion" => agents::diff,
    "getPrepublishReport" => agents::report,
    "simulateAgent" => simulate::simulate,
    "listSkills" => skills::list,
    "createSkill" => skills::create,
    "updateSkill" => skills::update,
    "deleteSkill" => skills::delete,
    "listSkillTypes" => skills::types,
    "createTalkToken" => talk::mint,
    "listKnowledgeSources" => knowledge::list,
    "createKnowledgeSource" => knowledge::create,
    "getKnowledgeSource" => knowledge::get,
    "updateKnowledgeSource" => knowledge::update,
    "deleteKnowledgeSource" => knowledge::delete,
    "previewKnowledge" => knowledge::preview,
    "createUpload" => uploads::create,
    "listPublishableKeys" => publishable::list,
    "mintPublishableKey" => publishable::mint,
    "updatePublishableKey" => publishable::update,
    "rotatePublishableKey" => publishable::rotate,
    "revokePublishableKey" => publishable::revoke,
    "getWidget" => widget::get,
    "replaceWidget" => widget::replace,
    "getWidgetEmbed" => widget::embed,
    "getWidgetBootstrap" => widget::bootstrap,
    "listNumbers" => numbers::list,
    "searchNumbers" => numbers::search,
    "getAvailableNumber" => numbers::available,
    "reserveNumber" => numbers::reserve,
    "releaseNumberReservation" => numbers::let_go,
    "purchaseNumber" => numbers::purchase,
    "importNumber" => numbers::import,
    "assignNumber" => numbers::assign,
    "unassignNumber" => numbers::unassign,
    "releaseNumber" => numbers::release,
    "getWallet" => billing::wallet,
    "topUpWallet" => billing::top_up,
    "setWalletAutoReload" => billing::set_auto_reload,
    "listPlans" => billing::plans,
    "changeSubscription" => billing::change_subscription,
    "getBillingUsage" => billing::usage,
    "listBillingUsageItems" => billing::items,
    "listConversations" => observe::list,
    "getConversation" => observe::get,
    "getConversationTranscript" => observe::transcript,
    "getConversationReceipt" => observe::receipt,
    "getAgentAnalytics" => observe::agent,
    "getAgentAnalyticsTimeseries" => observe::agent_timeseries,
    "getAnalyticsOverview" => observe::overview,
    "getAnalyticsByAgent" => observe::by_agent,
    "getAnalyticsTimeseries" => observe::timeseries,
    "listKnowledgeGaps" => observe::gaps,
    "updateKnowledgeGap" => observe::curate,
    "createChatSession" => chat_sessions::open,
    "getChatSession" => chat_sessions::get,
    "listChatMessages" => chat_sessions::messages,
    "sendChatMessage" => chat_sessions::send,
    "endChatSession" => chat_sessions::end,
    "createChatCompletion" => completions::complete,
    "listModels" => completions::models,
    "getModel" => completions::one_model,
    "openVisitorSession" => chat::open,
    "sendVisitorMessage" => chat::send,
    "listVisitorMessages" => chat::list,
}

/// What costs much, however short the question: it walks along history or ranks all there is. An organization has one turn at
/// these at once. Some are dear only with a query parameter, for which all has to be looked through.
const DEAR: &[(&str, Option<&str>)] = &[
    ("verifyAuditEvents", None),
    ("listAuditEvents", Some("actor")),
    ("listAuditEvents", Some("action")),
    ("listAuditEvents", Some("from")),
    ("listAuditEvents", Some("to")),
    ("listApiKeys", Some("search")),
    ("listApiKeys", Some("status")),
    ("listApiKeys", Some("env")),
    ("listApiKeys", Some("createdBy")),
    ("listApiKeys", Some("scope")),
    ("listApiKeys", Some("unusedSince")),
    ("listApiKeys", Some("expiringBefore")),
    ("getApiKeyUsage", None),
    ("getApiKeyScopeAdvice", None),
    ("getBillingUsage", None),
    ("createSkill", None),
    ("updateSkill", None),
    ("previewKnowledge", None),
    ("getPrepublishReport", None),
    // Those in which nobody said anything are passed over, and anybody may open as many of them as they like.
    ("listConversations", None),
    ("getAgentAnalytics", None),
    ("getAgentAnalyticsTimeseries", None),
    ("getAnalyticsOverview", None),
    ("getAnalyticsByAgent", None),
    ("getAnalyticsTimeseries", None),
    ("listKnowledgeGaps", None),
];

/// Whether a request costs much.
pub fn is_dear(operation: &str, query: &Parameters) -> bool {
    let fits = |parameter: &Option<&str>| parameter.is_none_or(|it| query.get(it).is_some());
    DEAR.iter().any(|(id, parameter)| *id == operation && fits(parameter))
}

/// One handler for each operation that is not reserved and no other, or what is too many and too few.
pub fn bind(contract: &Contract) -> Result<Vec<Option<Handler>>, Vec<String>> {
    let mut wrong = Vec::new();
    let find = |id: &str| HANDLERS.iter().find(|(known, _)| *known == id).map(|(_, handler)| *handler);
    let bound = contract
        .operations()
        .iter()
        .map(|operation| {
            let handler = find(&operation.id);
            match (operation.reserved, handler) {
                (true, Some(_)) => {
                    wrong.push(format!("operation {} is reserved and has a handler", operation.id))
                }
                (false, None) => {
                    wrong.push(format!("operation {} has no handler and is not reserved", operation.id))
                }
                _ => {}
            }
            handler
        })
        .collect();
    for id in HANDLERS.iter().map(|(id, _)| id).chain(DEAR.iter().map(|(id, _)| id)) {
        if !contract.operations().iter().any(|it| it.id == *id) {
            wrong.push(format!("there is a handler for {id}, which the contract does not declare"));
        }
    }
    if wrong.is_empty() { Ok(bound) } else { Err(wrong) }
}

/// A key after a change that no node can miss any more.
pub(crate) fn enforced(
    mut key: serde_json::Value,
    revision: flowyte_store::Revision,
    begun: std::time::Instant,
) -> Answer {
    key["revision"] = revision.into();
    key["effective"] = effective(begun);
    Answer::data(key)
}

/// What `effective` says: how many nodes had to confirm, and how long that took.
pub(crate) fn effective(begun: std::time::Instant) -> serde_json::Value {
    serde_json::json!({"nodes": 1, "waitedMs": begun.elapsed().as_millis() as u64})
}

#[cfg(test)]
mod tests {
    use super::*;
    use flowyte_core::{Operation, Requirement, ScopeTable};

    #[test]
    fn what_looks_through_history_is_dear() {
        let api = crate::serve::contract().unwrap();
        for (id, query, dear) in [
            ("listAuditEvents", "", false),
            ("listAuditEvents", "limit=100", false),
            // Events stand in the order of their sequence, so those of a time are looked for.
            ("listAuditEvents", "to=2020-01-01T00:00:00Z", true),
            ("listAuditEvents", "from=2090-01-01T00:00:00Z", true),
            ("listAuditEvents", "actor=x", true),
            ("listConversations", "", true),
            ("listApiKeys", "sort=expiresAt", false),
            ("listApiKeys", "search=x", true),
            ("getBillingUsage", "", true),
            ("getApiKeyUsage", "", true),
            ("updateSkill", "", true),
            ("listAgents", "", false),
        ] {
            let index = api.contract().operations().iter().position(|it| it.id == id).unwrap();
            let query = api.checks[index].check_query(Some(query)).unwrap();
            assert_eq!(is_dear(id, &query), dear, "{id}");
        }
    }

    #[test]
    fn a_handler_too_many_or_too_few_is_named() {
        let api = crate::serve::contract().unwrap();
        assert!(bind(api.contract()).is_ok());
        let mut operations = api.contract().operations().to_vec();
        operations.retain(|it| it.id != "mintApiKey");
        if let Some(whoami) = operations.iter_mut().find(|it| it.id == "whoami") {
            whoami.reserved = true;
        }
        operations.push(Operation::new("nobodyServesThis", "GET", "/x", Requirement::Public));
        let contract = Contract::new(operations, ScopeTable::default()).ok().unwrap();
        let wrong = bind(&contract).err().unwrap();
        for part in [
            "mintApiKey, which the contract does not declare",
            "whoami is reserved",
            "nobodyServesThis has no handler",
        ] {
            assert!(wrong.iter().any(|it| it.contains(part)), "{part}: {wrong:?}");
        }
        assert_eq!(wrong.len(), 3, "{wrong:?}");
    }
}
