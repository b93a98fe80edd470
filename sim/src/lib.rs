//! A simulated GPU inference server.
//!
//! [`engine`] is a pure model of a batching engine with a paged prefix cache: it has no clock, so
//! a fleet of them runs in virtual time. [`api`] turns request bodies into work for it and its
//! steps into vLLM's event streams. [`server`] puts both behind a socket, in real time, and
//! misbehaves on command ([`fault`]). [`options`] reads command lines, the harness's too.

pub mod api;
pub mod engine;
pub mod fault;
pub mod options;
pub mod server;
pub mod text;
