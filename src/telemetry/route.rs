//! Why requests went where they went.

/// Why the first of the ranked endpoints is the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    /// There is no other.
    OnlyOne,
    /// Every endpoint is marked down; the policy's choice among them all is better than none.
    AllUnhealthy,
    /// Its cache holds enough of the prompt.
    Warm,
    /// Another one's cache holds more of the prompt, but its lead costs more than the cache saves.
    Released,
    /// No cache holds the prompt: the anchor's own endpoint.
    Cold,
    /// No cache holds the prompt, and the anchor's own endpoint is busier than others.
    ColdOverflow,
    LeastLoaded,
    PowerOfTwo,
    LeastKv,
    RoundRobin,
    Random,
    Weighted,
    /// The hashed key's own endpoint.
    Hashed,
    /// The hashed key's own endpoint has more than its share.
    HashedOverflow,
    Cheapest,
}

impl Reason {
    /// Every reason, in the order of its discriminants.
    pub const ALL: [Reason; 15] = [
        Reason::OnlyOne,
        Reason::AllUnhealthy,
        Reason::Warm,
        Reason::Released,
        Reason::Cold,
        Reason::ColdOverflow,
        Reason::LeastLoaded,
        Reason::PowerOfTwo,
        Reason::LeastKv,
        Reason::RoundRobin,
        Reason::Random,
        Reason::Weighted,
        Reason::Hashed,
        Reason::HashedOverflow,
        Reason::Cheapest,
    ];

    /// The name in logs.
    pub const fn name(self) -> &'static str {
        match self {
            Reason::OnlyOne => "only_one",
            Reason::AllUnhealthy => "all_unhealthy",
            Reason::Warm => "warm",
            Reason::Released => "released",
            Reason::Cold => "cold",
            Reason::ColdOverflow => "cold_overflow",
            Reason::LeastLoaded => "least_loaded",
            Reason::PowerOfTwo => "power_of_two",
            Reason::LeastKv => "least_kv",
            Reason::RoundRobin => "round_robin",
            Reason::Random => "random",
            Reason::Weighted => "weighted",
            Reason::Hashed => "hashed",
            Reason::HashedOverflow => "hashed_overflow",
            Reason::Cheapest => "cheapest",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn discriminants_are_positions() {
        for (at, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(at, reason as usize);
        }
    }
}
