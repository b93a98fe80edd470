//! The routers that serve SGLang and vLLM: one code base, twice grown apart. Policy: the default of both,
//! cache-aware; requests are not logged.

use std::path::PathBuf;

use super::{Peer, Places, Plan, Wanted, command, on_path, pip, said};
use crate::Failure;
use crate::target::free_address;

pub const SGLANG: Peer = Peer {
    name: "sglang-router",
    install: pip!("sglang-router"),
    find: sglang,
    version: &["-m", "pip", "--disable-pip-version-check", "freeze"],
    plan: |wanted| plan(wanted, &["-m", "sglang_router.launch_router"], "warn"),
    balances: true,
};

pub const VLLM: Peer = Peer {
    name: "vllm-router",
    install: pip!("vllm-router"),
    find: vllm,
    version: &["--version"],
    plan: |wanted| plan(wanted, &[], "warning"),
    balances: true,
};
