//! Micro-benchmarks of pure code live in `benches/`; this library is empty.
