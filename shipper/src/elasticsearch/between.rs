//! Answers of somebody between KuMon and Elasticsearch: a proxy, a load balancer, a log-in page.

use kumon_schema::printable;
use url::Url;

use super::client::Answer;
use super::failure::Failure;

/// Of the body, in messages; in characters.
const WORDS: usize = 100;

/// What an answer means that Elasticsearch has not given; `None` where it may have. `section` is where the
/// cluster is configured, `credentials` where it is who asks.
pub(super) fn somebody_between(answer: &Answer, section: &str, credentials: &str) -> Option<Failure> {
    let status = answer.status;
    if (300..400).contains(&status) {
        return Some(redirect(answer, section));
    }
    if !matches!(status, 407 | 511) && is_of_elasticsearch(answer) {
        return None;
    }
    let advice = match status {
        200..300 => "is that one, or a proxy's page or a log-in page?".to_owned(),
        401 => format!(
            "a proxy in between wants other credentials, or {section}.hosts names another server; check \
             {credentials}"
        ),
        407 => "the proxy wants credentials: write them into the URL in HTTPS_PROXY or HTTP_PROXY, or name the host in \
                NO_PROXY"
            .to_owned(),
        511 => "the network wants somebody to log in first".to_owned(),
        408 | 425 | 429 | 500..600 => {
            "a proxy or load balancer in between has too much to do or doesn't reach Elasticsearch; see its log".to_owned()
        }
        _ => format!("is {section}.hosts right? A proxy or firewall in between may not let it through"),
    };
    let message = format!(
        "{} answered {status}, and not as Elasticsearch would ({}); {advice}",
        answer.host,
        first_words(&answer.body)
    );
    let passes = matches!(status, 408 | 425 | 429 | 500..=510 | 512..600);
    // Who stands in between may have passed the request on.
    let unclear = matches!(status, 200..300 | 500 | 502 | 504 | 520..600);
    Some(Failure { message, needs_person: !passes, unclear, status: Some(status) })
}

/// An answer that reports an error has one inside; any other is JSON.
pub(super) fn is_of_elasticsearch(answer: &Answer) -> bool {
    match answer.status {
        200..300 => matches!(answer.body.trim_ascii_start().first(), Some(b'{' | b'[')),
        _ => answer.error().is_some(),
    }
}

/// A redirect is not followed: the credentials, and the rows, are for the host that the configuration names.
fn redirect(answer: &Answer, section: &str) -> Failure {
    let Answer { status, host, .. } = answer;
    let message = match answer.location.as_deref().map(|location| target(answer, location)) {
        None => format!(
            "{host} redirects ({status}) without saying where; is {section}.hosts right, and is a proxy or a \
             log-in page in between?"
        ),
        Some(Err(location)) => format!(
            "{host} redirects to {location} ({status}), which no Elasticsearch does; is {section}.hosts \
             right, and is a proxy or a log-in page in between?"
        ),
        Some(Ok(base)) => format!(
            "{host} redirects to {base} ({status}), which is not followed; write {base} into \
             {section}.hosts if that is the Elasticsearch"
        ),
    };
    Failure { message, needs_person: true, unclear: false, status: Some(*status) }
}

/// What to write into the hosts so that the same request goes where the redirect leads; else where it leads to.
fn target(answer: &Answer, location: &str) -> Result<String, String> {
    let url = Url::parse(&answer.host).and_then(|host| host.join(location));
    let Ok(mut url) = url else { return Err(printable(location)) };
    // What stands before an @ would be somebody's credentials.
    let _ = (url.set_username(""), url.set_password(None));
    let whole = printable(url.as_str());
    let (path, asked) = (url.path().to_owned(), answer.path.split('?').next().unwrap_or_default());
    let Some(prefix) = path.trim_end_matches('/').strip_suffix(asked.trim_matches('/')) else {
        return Err(whole);
    };
    url.set_path(prefix.trim_end_matches('/'));
    url.set_query(None);
    url.set_fragment(None);
    let base = printable(url.as_str().trim_end_matches('/'));
    if base == answer.host { Err(whole) } else { Ok(base) }
}

/// How a body begins, on one line, with what could do something to a terminal escaped.
pub(super) fn first_words(body: &[u8]) -> String {
    let beginning = String::from_utf8_lossy(&body[..body.len().min(8 * WORDS)]).into_owned();
    let words = beginning.split_whitespace().collect::<Vec<_>>().join(" ");
    if words.is_empty() {
        return "an empty body".to_owned();
    }
    let cut: String = words.chars().take(WORDS).collect();
    let more = if cut.len() < words.len() || body.len() > beginning.len() { "…" } else { "" };
    format!("'{}{more}'", printable(&cut))
}

#[cfg(test)]
mod tests {
    use super::somebody_between;
    use crate::elasticsearch::client::Answer;

    const SECTION: &str = "output.elasticsearch";

    fn answer(status: u16, body: &str, location: Option<&str>) -> Answer {
        Answer {
            status,
            body: body.to_owned().into(),
            host: "http://es1:9200".into(),
            path: "_bulk?timeout=3s".into(),
            location: location.map(str::to_owned),
            is_cut: false,
        }
    }

    #[test]
    fn what_elasticsearch_answers_is_its_own() {
        for (status, body) in [
            (200, r#"{"errors":false}"#),
            (200, " {}"),
            (400, r#"{"error":{"type":"parse_exception","reason":"request body is required"},"status":400}"#),
            (
                401,
                r#"{"error":{"type":"security_exception","reason":"unable to authenticate"},"status":401}"#,
            ),
            (404, r#"{"error":"no handler found for uri [/x] and method [POST]"}"#),
            (405, r#"{"error":"Incorrect HTTP method for uri [/x]","status":405}"#),
            (429, r#"{"error":{"type":"es_rejected_execution_exception"}}"#),
            (503, r#"{"error":{"root_cause":[],"type":"master_not_discovered_exception","reason":null}}"#),
        ] {
            assert_eq!(
                somebody_between(&answer(status, body, None), SECTION, "password_file"),
                None,
                "{status}: {body}"
            );
        }
    }

    #[test]
    fn what_somebody_between_answers_is_told_with_its_first_words_and_waits() {
        let nginx = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>";
        for (status, body, needs_person, unclear, said) in [
            (502, nginx, false, true, "'<html> <head><title>502 Bad Gateway</title></head> <body>'"),
            (503, "upstream connect error", false, false, "doesn't reach Elasticsearch"),
            (504, "", false, true, "an empty body"),
            (500, "Internal Server Error", false, true, "'Internal Server Error'"),
            (524, "error code: 524", false, true, "see its log"),
            (429, "slow down", false, false, "too much to do"),
            (408, "", false, false, "has too much to do"),
            (200, "<!DOCTYPE html><title>Log in</title>", true, true, "log-in page"),
            (200, "", true, true, "is that one"),
            (200, "OK", true, true, "'OK'"),
            (204, "", true, true, "204"),
            (
                400,
                "<h1>The plain HTTP request was sent to HTTPS port</h1>",
                true,
                false,
                "plain HTTP request",
            ),
            (400, "{\"message\":\"bad\"}", true, false, "is output.elasticsearch.hosts right?"),
            (401, "<title>401 Authorization Required</title>", true, false, "a proxy in between wants"),
            (
                403,
                "{\"Message\":\"User: anonymous is not authorized\"}",
                true,
                false,
                "may not let it through",
            ),
            (404, "404 page not found", true, false, "is output.elasticsearch.hosts right?"),
            (407, "{\"error\":\"proxy\"}", true, false, "HTTPS_PROXY"),
            (451, "", true, false, "451"),
            (511, "<a href=\"http://portal/login\">", true, false, "log in first"),
        ] {
            let failure = somebody_between(&answer(status, body, None), SECTION, "password_file").unwrap();
            let message = &failure.message;
            assert!(
                message.contains(said) && message.contains("http://es1:9200 answered"),
                "{status}: {message}"
            );
            assert_eq!(
                (failure.needs_person, failure.unclear, failure.status),
                (needs_person, unclear, Some(status)),
                "{message}"
            );
            assert!(!message.contains('\n'), "{message}");
        }
    }

    #[test]
    fn what_could_do_something_to_a_terminal_is_escaped_and_cut() {
        let body = format!("\x1b[2J\u{202e}evil\0 {}", "x".repeat(1 << 20));
        let message = somebody_between(&answer(502, &body, None), SECTION, "").unwrap().message;
        assert!(message.contains(r"'\u{1b}[2J\u{202e}evil") && message.contains('…'), "{message}");
        assert!(message.len() < 500 && !message.chars().any(char::is_control), "{message}");
        let location = "http://es2:9200/\x1b]0;x\x07_bulk";
        let message = somebody_between(&answer(302, "", Some(location)), SECTION, "").unwrap().message;
        assert!(!message.chars().any(char::is_control), "{message}");
    }

    #[test]
    fn a_redirect_is_named_with_what_to_write_instead_and_blames_nobody_s_credentials() {
        for (status, location, said) in [
            (
                301,
                "https://es1:9200/_bulk?timeout=3s",
                "write https://es1:9200 into output.elasticsearch.hosts",
            ),
            (308, "https://es1/_bulk/?timeout=3s", "write https://es1 into"),
            (307, "https://gw.example/es/_bulk?timeout=3s", "write https://gw.example/es into"),
            (302, "//es2:9200/_bulk", "write http://es2:9200 into"),
            (302, "http://user:secret@es2:9200/_bulk", "write http://es2:9200 into"),
            (302, "/login?next=/_bulk", "redirects to http://es1:9200/login?next=/_bulk (302)"),
            (303, "https://sso.example/authorize", "redirects to https://sso.example/authorize (303)"),
            (301, "http://es1:9200/_bulk", "redirects to http://es1:9200/_bulk (301)"),
            (302, "http://[", "redirects to http://[ (302)"),
        ] {
            let failure =
                somebody_between(&answer(status, "", Some(location)), SECTION, "password_file").unwrap();
            let message = &failure.message;
            assert!(message.contains(said), "{location}: {message}");
            assert!(!message.contains("password_file") && !message.contains("secret"), "{message}");
            assert!(failure.needs_person && !failure.unclear, "{message}");
        }
        let message = somebody_between(&answer(304, "", None), SECTION, "").unwrap().message;
        assert!(message.contains("without saying where"), "{message}");
    }
}
