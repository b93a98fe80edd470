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

/// How a request is served whose model has pairs of servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Course {
    /// By two servers.
    Split,
    /// By one: too little of its prompt has to be computed.
    Short,
    /// By one: two cannot share it.
    Unsplittable,
    /// By one: none that prefills is there.
    NoPrefill,
    /// By nobody.
    Refused,
    /// By one: it was split, and one of the two failed.
    FellBack,
}

impl Course {
    /// Every course, in the order of its discriminants.
    pub const ALL: [Course; 6] = [
        Course::Split,
        Course::Short,
        Course::Unsplittable,
        Course::NoPrefill,
        Course::Refused,
        Course::FellBack,
    ];

    /// The name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Course::Split => "split",
            Course::Short => "short",
            Course::Unsplittable => "unsplittable",
            Course::NoPrefill => "no_prefill",
            Course::Refused => "refused",
            Course::FellBack => "fell_back",
        }
    }
}
