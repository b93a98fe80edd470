//! What backends speak beyond the clients' API. Pure: bytes in, splices out.

pub mod pair;
