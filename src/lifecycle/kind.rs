//! The kinds of resource a ledger counts.

/// One ledger per kind and shard; the order is the order in metrics and in `/debug/lifecycle`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    Connection,
    Turn,
    PlanPin,
    KeySlot,
    UsageRow,
    BodyBytes,
    AnswerBytes,
    QueuePlace,
    EndpointPlace,
    ModelSlot,
    UpstreamStream,
    UpstreamConnection,
    StreamBuffer,
    Retry,
    PrefillTokens,
    KvTokens,
    ShadowCopy,
    ShadowBytes,
    Spend,
}

impl Kind {
    /// Every kind, in the order of its discriminants.
    pub const ALL: [Kind; 19] = [
        Kind::Connection,
        Kind::Turn,
        Kind::PlanPin,
        Kind::KeySlot,
        Kind::UsageRow,
        Kind::BodyBytes,
        Kind::AnswerBytes,
        Kind::QueuePlace,
        Kind::EndpointPlace,
        Kind::ModelSlot,
        Kind::UpstreamStream,
        Kind::UpstreamConnection,
        Kind::StreamBuffer,
        Kind::Retry,
        Kind::PrefillTokens,
        Kind::KvTokens,
        Kind::ShadowCopy,
        Kind::ShadowBytes,
        Kind::Spend,
    ];

    /// The name in metrics and at the admin API.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Connection => "connection",
            Kind::Turn => "turn",
            Kind::PlanPin => "plan_pin",
            Kind::KeySlot => "key_slot",
            Kind::UsageRow => "usage_row",
            Kind::BodyBytes => "body_bytes",
            Kind::AnswerBytes => "answer_bytes",
            Kind::QueuePlace => "queue_place",
            Kind::EndpointPlace => "endpoint_place",
            Kind::ModelSlot => "model_slot",
            Kind::UpstreamStream => "upstream_stream",
            Kind::UpstreamConnection => "upstream_connection",
            Kind::StreamBuffer => "stream_buffer",
            Kind::Retry => "retry",
            Kind::PrefillTokens => "prefill_tokens",
            Kind::KvTokens => "kv_tokens",
            Kind::ShadowCopy => "shadow_copy",
            Kind::ShadowBytes => "shadow_bytes",
            Kind::Spend => "spend",
        }
    }
}
