//! Text and tokens: how a prompt becomes token ids, and what the model says.
//!
//! Everything here is a pure function of its arguments, so two servers with one seed agree.

pub mod tokens;
pub mod voice;

/// A fast, well-mixed step of a running 64-bit hash (the finaliser of splitmix64).
pub fn mix(state: u64, value: u64) -> u64 {
    let mut x = (state ^ value).wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
