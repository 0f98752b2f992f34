//! The status page: one embedded file that asks nobody but this listener.

use std::sync::LazyLock;

use axum::http::HeaderName;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::response::IntoResponse;
use ring::digest::{SHA256, digest};

/// HTML, style and script in one.
pub(super) const PAGE: &str = include_str!("page.html");

/// The page's own script and style run, by their digests, and nothing else whatever the page is made to show.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; img-src data:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
        base64(digest(&SHA256, inside("script").as_bytes()).as_ref()),
        base64(digest(&SHA256, inside("style").as_bytes()).as_ref()),
    )
});

pub(super) async fn page() -> impl IntoResponse {
    let headers: [(HeaderName, &str); 5] = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CACHE_CONTROL, "no-store"),
        (CONTENT_SECURITY_POLICY, &POLICY),
        (REFERRER_POLICY, "no-referrer"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, PAGE)
}

/// What stands between `<tag>` and `</tag>`.
fn inside(tag: &str) -> &'static str {
    let begin = PAGE.find(&format!("<{tag}>")).map_or(0, |at| at + tag.len() + 2);
    let end = PAGE.find(&format!("</{tag}>")).unwrap_or(PAGE.len());
    &PAGE[begin..end]
}

/// RFC 4648 §4.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let number = (0..3).fold(0_u32, |number, i| number << 8 | u32::from(chunk.get(i).copied().unwrap_or(0)));
        for place in 0..4 {
            let letter = LETTERS[(number >> (18 - 6 * place) & 63) as usize];
            text.push(if place > chunk.len() { '=' } else { char::from(letter) });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_as_in_the_rfc() {
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    /// What would defeat the policy, or ask others: it has to be looked for, because a browser without it just obeys.
    #[test]
    fn the_page_is_whole_and_makes_no_html_of_data() {
        for tag in ["script", "style"] {
            assert_eq!(PAGE.matches(&format!("<{tag}")).count(), 1, "{tag}");
            assert!(inside(tag).len() > 1000, "{tag}");
        }
        let script = inside("script");
        for word in ["innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval(", "new Function"] {
            let code = script.lines().filter(|line| !line.trim_start().starts_with("//"));
            assert!(!code.into_iter().any(|line| line.contains(word)), "{word}");
        }
        for word in [" style=\"", " onclick", "src=", "@import", "url(", "https:"] {
            assert!(!PAGE.contains(word), "{word}");
        }
        assert_eq!(PAGE.matches("http:").count(), 1, "the namespace of SVG");
    }
}
