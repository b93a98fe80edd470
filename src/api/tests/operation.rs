use crate::api::{Family, Operation, Resolved, Unroutable, resolve};
use crate::http::Method;

fn model(path: &str) -> Option<String> {
    let resolved = resolve(Method::Get, path.as_bytes()).ok()?;
    assert_eq!(resolved.op, Operation::GetModel);
    resolved.model
}

#[test]
fn every_operation_resolves_from_its_own_path() {
    for op in Operation::ALL.into_iter().filter(|op| *op != Operation::GetModel) {
        let method = if op.has_body() { Method::Post } else { Method::Get };
        let expected = Ok(Resolved { op, model: None });
        assert_eq!(resolve(method, op.path().as_bytes()), expected);
        let with_query = format!("{}?beta=true&x=/v1/models/y", op.path());
        assert_eq!(resolve(method, with_query.as_bytes()), expected);
    }
}

#[test]
fn model_ids_hold_slashes_and_escapes() {
    for (path, id) in [
        ("/v1/models/mock-model", "mock-model"),
        ("/v1/models/meta-llama/Llama-3.1-8B?x=1", "meta-llama/Llama-3.1-8B"),
        ("/v1/models/meta-llama%2FLlama-3.1-8B", "meta-llama/Llama-3.1-8B"),
        ("/v1/models/a%2fb%20c%C3%A9", "a/b cé"),
        ("/v1/models/100%25", "100%"),
        ("/v1/models/a%252Fb", "a%2Fb"),
        ("/v1/models/a+b", "a+b"),
    ] {
        assert_eq!(model(path).as_deref(), Some(id), "{path}");
    }
}

#[test]
fn what_does_not_exist_is_not_found() {
    for path in [
        "",
        "/",
        "/v1",
        "/v1/chat/completions/",
        "/V1/models",
        "/v1/models/",
        "/v1/models/%",
        "/v1/models/%4",
        "/v1/models/%zz",
        "/v1/models/%+1",
        "/v1/models/%ff",
        "/v1/chat%2Fcompletions",
    ] {
        for method in [Method::Get, Method::Post] {
            assert_eq!(resolve(method, path.as_bytes()), Err(Unroutable::NotFound), "{path}");
        }
    }
    assert_eq!(resolve(Method::Get, b"/v1/models/\xff"), Err(Unroutable::NotFound));
}

#[test]
fn a_wrong_method_is_told_the_right_ones() {
    let denied = |method, path: &str| match resolve(method, path.as_bytes()) {
        Err(Unroutable::MethodNotAllowed { allow }) => allow,
        other => panic!("{other:?}"),
    };
    for method in [Method::Get, Method::Head, Method::Options, Method::Delete, Method::Other] {
        assert_eq!(denied(method, "/v1/messages"), "POST");
    }
    for method in [Method::Post, Method::Put, Method::Patch] {
        assert_eq!(denied(method, "/v1/models"), "GET, HEAD");
        assert_eq!(denied(method, "/v1/models/a/b"), "GET, HEAD");
    }
    assert!(resolve(Method::Head, b"/v1/models").is_ok());
}

#[test]
fn families_and_streams() {
    assert_eq!(Operation::CountTokens.family(), Family::Anthropic);
    assert_eq!(Operation::Responses.family(), Family::OpenAi);
    let streaming = Operation::ALL.into_iter().filter(|op| op.streams()).count();
    assert_eq!(streaming, 4);
}
