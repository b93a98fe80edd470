use serde_json::{Value, json};

use crate::api::{Blame, Family, Fault, Operation, Retry, error_body, error_event};
use crate::http::Reject;

/// Every fault with its status, its type and code in OpenAI's API, and its type in Anthropic's.
fn table() -> Vec<(Fault, u16, &'static str, Option<&'static str>, &'static str)> {
    const INVALID: &str = "invalid_request_error";
    const SERVER: &str = "server_error";
    let reported = |status| Fault::UpstreamReported { status, message: "boom".into() };
    let invalid = Fault::InvalidField { field: "n", expected: "a positive integer" };
    vec![
        (Fault::HttpSyntax("x"), 400, INVALID, None, INVALID),
        (Fault::MalformedBody("x".into()), 400, INVALID, Some("invalid_json"), INVALID),
        (Fault::MissingField("model"), 400, INVALID, Some("missing_required_parameter"), INVALID),
        (invalid, 400, INVALID, Some("invalid_value"), INVALID),
        (Fault::DuplicateField("model"), 400, INVALID, Some("duplicate_parameter"), INVALID),
        (Fault::MissingKey, 401, INVALID, None, "authentication_error"),
        (Fault::BadKey, 401, INVALID, Some("invalid_api_key"), "authentication_error"),
        (Fault::ForeignPage, 403, "permission_error", Some("foreign_host"), "permission_error"),
        (Fault::UnknownModel("m".into()), 404, INVALID, Some("model_not_found"), "not_found_error"),
        (Fault::NotFound, 404, INVALID, Some("unknown_url"), "not_found_error"),
        (
            Fault::MethodNotAllowed { allow: "POST" },
            405,
            INVALID,
            Some("method_not_allowed"),
            INVALID,
        ),
        (Fault::SlowHead, 408, INVALID, Some("request_timeout"), "timeout_error"),
        (Fault::SlowBody, 408, INVALID, Some("request_timeout"), "timeout_error"),
        (
            Fault::BodyTooLarge { bytes_max: 9 },
            413,
            INVALID,
            Some("request_too_large"),
            "request_too_large",
        ),
        (Fault::TargetTooLong, 414, INVALID, None, INVALID),
        (Fault::ContentEncoding, 415, INVALID, Some("unsupported_media_type"), INVALID),
        (Fault::ContentType, 415, INVALID, Some("unsupported_media_type"), INVALID),
        (Fault::Expectation, 417, INVALID, None, INVALID),
        (
            Fault::RateLimited { retry_after_s: 3 },
            429,
            "rate_limit_error",
            Some("rate_limit_exceeded"),
            "rate_limit_error",
        ),
        (Fault::HeadTooLarge, 431, INVALID, None, INVALID),
        (Fault::Internal, 500, SERVER, Some("internal_error"), "api_error"),
        (Fault::NotImplemented("CONNECT"), 501, SERVER, None, "api_error"),
        (Fault::UpstreamFailed, 502, SERVER, Some("upstream_error"), "api_error"),
        (Fault::UpstreamBroken, 502, SERVER, Some("upstream_error"), "api_error"),
        (reported(400), 400, INVALID, None, INVALID),
        (reported(401), 502, SERVER, None, "api_error"),
        (reported(429), 429, "rate_limit_error", None, "rate_limit_error"),
        (reported(529), 529, SERVER, None, "overloaded_error"),
        (
            Fault::Unavailable { retry_after_s: None },
            503,
            SERVER,
            Some("service_unavailable"),
            "overloaded_error",
        ),
        (
            Fault::Overloaded { retry_after_s: 1 },
            503,
            SERVER,
            Some("overloaded"),
            "overloaded_error",
        ),
        (Fault::ShuttingDown, 503, SERVER, Some("shutting_down"), "overloaded_error"),
        (Fault::UpstreamTimeout, 504, SERVER, Some("upstream_timeout"), "timeout_error"),
        (Fault::HttpVersion, 505, INVALID, None, INVALID),
    ]
}

#[test]
fn bodies_have_the_shape_of_their_api() {
    for (fault, status, openai, code, anthropic) in table() {
        assert_eq!(fault.status(), status, "{fault:?}");
        let message = fault.message();
        let body: Value =
            serde_json::from_slice(&error_body(Family::OpenAi, &fault, "req_1")).unwrap();
        let error = json!({
            "message": message, "type": openai, "param": fault.param(), "code": code,
        });
        assert_eq!(body, json!({ "error": error }), "{fault:?}");
        let body: Value =
            serde_json::from_slice(&error_body(Family::Anthropic, &fault, "req_1")).unwrap();
        let error = json!({ "type": anthropic, "message": message });
        let expected = json!({ "type": "error", "error": error, "request_id": "req_1" });
        assert_eq!(body, expected, "{fault:?}");
    }
}

#[test]
fn messages_name_what_is_wrong() {
    for (fault, part) in [
        (Fault::MissingField("model"), "'model'"),
        (Fault::InvalidField { field: "n", expected: "a positive integer" }, "'n'"),
        (Fault::InvalidField { field: "n", expected: "a positive integer" }, "a positive integer"),
        (Fault::DuplicateField("stream"), "'stream'"),
        (Fault::UnknownModel("m/x".into()), "'m/x'"),
        (Fault::MethodNotAllowed { allow: "GET, HEAD" }, "GET, HEAD"),
        (Fault::BodyTooLarge { bytes_max: 4096 }, "4096"),
        (Fault::MalformedBody("invalid JSON at byte 7: x".into()), "byte 7"),
    ] {
        assert!(fault.message().contains(part), "{fault}");
    }
}

#[test]
fn a_long_or_odd_model_name_is_quoted_within_bounds() {
    let fault = Fault::UnknownModel("é".repeat(5000).into());
    assert!(fault.message().len() < 400);
    let fault = Fault::UnknownModel("\"\n\u{1}</script>".into());
    let body = error_body(Family::OpenAi, &fault, "r");
    let body: Value = serde_json::from_slice(&body).unwrap();
    let message = body["error"]["message"].as_str().unwrap();
    assert!(message.contains("\"\n\u{1}</script>"));
}

fn data_of_event(event: &[u8]) -> Value {
    let crate::sse::Data::One(data) = crate::sse::data_of(event) else { panic!("one data line") };
    serde_json::from_slice(data).unwrap()
}

#[test]
fn events_end_each_stream_in_its_own_way() {
    for (fault, ..) in table() {
        for op in [Operation::Chat, Operation::Completions] {
            let event = error_event(op, &fault, "r", 5);
            assert!(event.starts_with(b"data: {") && event.ends_with(b"}\n\n"));
            let body = error_body(Family::OpenAi, &fault, "r");
            assert_eq!(data_of_event(&event), serde_json::from_slice::<Value>(&body).unwrap());
        }
        let event = error_event(Operation::Messages, &fault, "r", 5);
        assert!(event.starts_with(b"event: error\ndata: {") && event.ends_with(b"}\n\n"));
        assert_eq!(data_of_event(&event)["type"], "error");
        let event = error_event(Operation::Responses, &fault, "r", 5);
        assert!(event.starts_with(b"event: error\ndata: {") && event.ends_with(b"}\n\n"));
        let data = data_of_event(&event);
        assert_eq!((&data["type"], &data["sequence_number"]), (&json!("error"), &json!(5)));
        assert_eq!(data["message"], data["error"]["message"]);
        assert!(data["code"].is_string());
    }
}

#[test]
fn blame_and_retry() {
    assert_eq!(Fault::BadKey.blame(), Blame::Credential);
    assert_eq!(Fault::UpstreamTimeout.blame(), Blame::Backend);
    assert_eq!(Fault::NotFound.blame(), Blame::Client);
    assert_eq!(Fault::NotFound.retry(), Retry::Never);
    assert_eq!(Fault::RateLimited { retry_after_s: 3 }.retry(), Retry::AfterS(3));
    assert_eq!(Fault::Unavailable { retry_after_s: None }.retry(), Retry::Soon);
    let reported = |status| Fault::UpstreamReported { status, message: "x".into() };
    assert_eq!((reported(400).blame(), reported(400).retry()), (Blame::Client, Retry::Never));
    assert_eq!(reported(401).blame(), Blame::Credential);
    assert_eq!((reported(500).blame(), reported(500).retry()), (Blame::Backend, Retry::Soon));
}

#[test]
fn refused_heads_keep_their_status() {
    for reject in [
        Reject::TargetBytes,
        Reject::Expectation,
        Reject::Connect,
        Reject::Version,
        Reject::MissingHost,
        Reject::Malformed(crate::http::Malformed::HeadBytes),
        Reject::Malformed(crate::http::Malformed::UnknownCoding),
        Reject::Malformed(crate::http::Malformed::BareLf),
    ] {
        assert_eq!(Fault::from(reject).status(), reject.status(), "{reject:?}");
    }
}
