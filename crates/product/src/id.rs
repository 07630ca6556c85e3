//! Ids of what the product knows.

use flowyte_core::ids;

/// An agent: what publishable keys are pinned to.
pub use flowyte_core::id::ResourceId as AgentId;

ids! {
    /// A published version of an agent.
    AgentVersionId = "ver";
    /// A knowledge source of an agent.
    KnowledgeSourceId = "source";
    /// One passage of a knowledge source.
    PassageId = "chunk";
    /// A file that was uploaded to become a knowledge source; it is forgotten when that has been read.
    UploadId = "file";
    /// A skill of an agent.
    SkillId = "skill";
    /// A conversation between an agent and a visitor or a program.
    ConversationId = "conv";
    /// One message of a conversation.
    MessageId = "msg";
    /// One transaction of the ledger.
    LedgerTransactionId = "txn";
    /// A payment into the wallet.
    TopUpId = "topup";
    /// A telephone number of an organization, from the beginning of its purchase or import.
    NumberId = "num";
    /// A hold on a number that is for sale.
    NumberHoldId = "hold";
    /// A question that an agent could not answer.
    KnowledgeGapId = "gap";
}
