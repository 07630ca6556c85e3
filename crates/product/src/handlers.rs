//! The handler of each operation of the product.

mod agents;
mod billing;
pub(crate) mod chat;
mod chat_sessions;
pub(crate) mod completions;
mod knowledge;
mod numbers;
mod observe;
mod simulate;
mod skills;
mod talk;
mod uploads;
mod widget;

use crate::Product;
use flowyte_http::route::{Route, Routes};
use std::sync::Arc;

/// Every operation with what runs for it.
pub(crate) fn routes(product: Arc<Product>) -> Vec<Route> {
    let mut on = Routes::new(product);
    agents_operations(&mut on);
    numbers_operations(&mut on);
    billing_operations(&mut on);
    conversations_operations(&mut on);
    chats_operations(&mut on);
    on.into_vec()
}

/// Agents, what they can do and what they know.
fn agents_operations(on: &mut Routes<Product>) {
    on.product("listAgents", agents::list);
    on.product("createAgent", agents::create);
    on.product("getAgent", agents::get);
    on.product("updateAgent", agents::update);
    on.product("deleteAgent", agents::delete);
    on.product("publishAgent", agents::publish);
    on.product("rollbackAgent", agents::rollback);
    on.product("listAgentVersions", agents::versions);
    on.product("diffAgentVersion", agents::diff);
    on.product("getPrepublishReport", agents::report).dear();
    on.product("simulateAgent", simulate::simulate);
    on.product("listSkills", skills::list);
    on.product("createSkill", skills::create).dear();
    on.product("updateSkill", skills::update).dear();
    on.product("deleteSkill", skills::delete);
    on.product("listSkillTypes", skills::types);
    on.product("createTalkToken", talk::mint);
    on.product("listKnowledgeSources", knowledge::list);
    on.product("createKnowledgeSource", knowledge::create);
    on.product("getKnowledgeSource", knowledge::get);
    on.product("updateKnowledgeSource", knowledge::update);
    on.product("deleteKnowledgeSource", knowledge::delete);
    on.product("previewKnowledge", knowledge::preview).dear();
    on.product("createUpload", uploads::create);
    on.product("getWidget", widget::get);
    on.product("replaceWidget", widget::replace);
    on.product("getWidgetEmbed", widget::embed);
    on.product("getWidgetBootstrap", widget::bootstrap);
}

/// Buying, holding and assigning telephone numbers.
fn numbers_operations(on: &mut Routes<Product>) {
    on.product("listNumbers", numbers::list);
    on.product("searchNumbers", numbers::search);
    on.product("getAvailableNumber", numbers::available);
    on.product("reserveNumber", numbers::reserve);
    on.product("releaseNumberReservation", numbers::let_go);
    on.product("purchaseNumber", numbers::purchase);
    on.product("importNumber", numbers::import);
    on.product("assignNumber", numbers::assign);
    on.product("unassignNumber", numbers::unassign);
    on.product("releaseNumber", numbers::release);
}

/// The wallet and what is taken from it.
fn billing_operations(on: &mut Routes<Product>) {
    on.product("getWallet", billing::wallet);
    on.product("topUpWallet", billing::top_up);
    on.product("setWalletAutoReload", billing::set_auto_reload);
    on.product("listPlans", billing::plans);
    on.product("changeSubscription", billing::change_subscription);
    on.product("getBillingUsage", billing::usage).dear();
    on.product("listBillingUsageItems", billing::items);
}

/// What was said, and how agents do.
fn conversations_operations(on: &mut Routes<Product>) {
    // Those in which nobody said anything are passed over, and anybody may open as many of them as they like.
    on.product("listConversations", observe::list).dear();
    on.product("getConversation", observe::get);
    on.product("getConversationTranscript", observe::transcript);
    on.product("getConversationReceipt", observe::receipt);
    on.product("getAgentAnalytics", observe::agent).dear();
    on.product("getAgentAnalyticsTimeseries", observe::agent_timeseries).dear();
    on.product("getAnalyticsOverview", observe::overview).dear();
    on.product("getAnalyticsByAgent", observe::by_agent).dear();
    on.product("getAnalyticsTimeseries", observe::timeseries).dear();
    on.product("listKnowledgeGaps", observe::gaps).dear();
    on.product("updateKnowledgeGap", observe::curate).dear();
}

/// Questions to agents, by programs and by visitors.
fn chats_operations(on: &mut Routes<Product>) {
    on.product("createChatSession", chat_sessions::open);
    on.product("getChatSession", chat_sessions::get);
    on.product("listChatMessages", chat_sessions::messages);
    on.product("sendChatMessage", chat_sessions::send);
    on.product("endChatSession", chat_sessions::end);
    on.product("createChatCompletion", completions::complete).refused(completions::refused);
    on.product("listModels", completions::models).refused(completions::refused);
    on.product("getModel", completions::one_model).refused(completions::refused);
    on.product("openVisitorSession", chat::open);
    on.product("sendVisitorMessage", chat::send);
    on.product("listVisitorMessages", chat::list);
}
