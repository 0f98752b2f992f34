//! `holdline phones`: who is registered, and who is not and why.

#![allow(clippy::format_push_string, reason = "a page for people, put together once")]

use clap::Args;
use serde::Deserialize;

use super::Failure;
use super::locate::QuestionArgs;
use super::terminal::{json, print, span, table, visible};
use crate::control::Command;

/// The arguments of `holdline phones`.
#[derive(Debug, Args)]
pub struct PhonesArgs {
    /// Digits: the handset of that extension. Other text: handsets with it in AOR, address, User-Agent or target.
    query: Option<String>,
    /// List at most so many (1000 at most).
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
    #[command(flatten)]
    question: QuestionArgs,
}

/// Of [`Phones`](crate::proxy::phones::Phones), what is printed.
#[derive(Debug, Deserialize)]
struct Answer {
    phones: Vec<Phone>,
    matching: usize,
    registered: usize,
    more: usize,
    known: usize,
    similar: Vec<String>,
    trouble_limit: usize,
    trouble_forgotten: u64,
}

#[derive(Debug, Deserialize)]
struct Phone {
    aor: String,
    address: String,
    transport: String,
    user_agent: String,
    registered: bool,
    reachable: bool,
    expires_seconds: Option<f64>,
    target: String,
    outcome: String,
    code: Option<u16>,
    cause: Option<String>,
    detail: Option<String>,
    outcome_age_seconds: Option<f64>,
    failures: u32,
}

/// 0: a handset that matches is registered; 1: none is.
pub(super) fn phones(args: &PhonesArgs) -> Result<(), Failure> {
    let query = args.query.clone().unwrap_or_default();
    let answer = args.question.ask(&Command::Phones { query: query.clone(), limit: Some(args.limit) })?;
    let text = if args.question.json { Some(json(&answer, true)) } else { None };
    let answer: Answer = serde_json::from_value(answer)
        .map_err(|error| Failure::Unavailable(anyhow::anyhow!("this is not the answer of a Holdline: {error}")))?;
    print(&text.unwrap_or_else(|| rendered(&answer, &query)))?;
    if answer.registered == 0 { Err(Failure::No) } else { Ok(()) }
}

fn rendered(answer: &Answer, query: &str) -> String {
    if answer.matching == 0 {
        return nobody(answer, query);
    }
    let heads = ["AOR", "ADDRESS", "VIA", "LAST OUTCOME", "EXPIRES", "TARGET", "USER-AGENT"];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    rows.extend(answer.phones.iter().map(row));
    let mut text = table(&rows);
    if answer.more > 0 {
        text += &format!("{} more; --limit lists up to 1000, a QUERY finds one\n", answer.more);
    }
    text += &format!("{} of {} registered", answer.registered, answer.matching);
    if !query.trim().is_empty() {
        text += &format!(" ({} phones known)", answer.known);
    }
    text.push('\n');
    if answer.trouble_forgotten > 0 {
        let (forgotten, limit) = (answer.trouble_forgotten, answer.trouble_limit);
        text += &format!("{forgotten} phones in trouble were forgotten: at most {limit} are kept\n");
    }
    text
}

fn nobody(answer: &Answer, query: &str) -> String {
    if query.trim().is_empty() {
        return "no phone has registered, or tried to in the last hour\n".to_owned();
    }
    let mut text = format!(
        "no phone {} is registered, or tried to in the last hour ({} known)\n",
        visible(query.trim()),
        answer.known
    );
    if !answer.similar.is_empty() {
        let similar: Vec<String> = answer.similar.iter().map(|aor| visible(aor)).collect();
        text += &format!("similar: {}\n", similar.join(", "));
    }
    text
}

fn row(phone: &Phone) -> Vec<String> {
    let expires = match phone.expires_seconds {
        Some(seconds) if phone.reachable => span(seconds),
        Some(seconds) => format!("{}, connection lost", span(seconds)),
        None => "not registered".to_owned(),
    };
    vec![
        visible(&phone.aor),
        visible(&phone.address),
        visible(&phone.transport),
        outcome(phone),
        expires,
        visible(&phone.target),
        visible(&phone.user_agent),
    ]
}

/// `registered 200`, `rejected 403 "Forbidden" 12 s ago`, `failed: timeout 3 s ago (4 times)`.
fn outcome(phone: &Phone) -> String {
    let mut text = match (phone.outcome.as_str(), phone.registered) {
        ("success", true) => "registered".to_owned(),
        (other, _) => visible(other),
    };
    match (phone.code, phone.cause.as_deref()) {
        (Some(code), _) => text += &format!(" {code}"),
        (None, Some(cause)) => text += &format!(": {}", visible(&cause.replace('_', " "))),
        (None, None) => {}
    }
    if let Some(detail) = &phone.detail {
        // The whole of it is in --json.
        let short: String = detail.chars().take(40).collect();
        let dots = if short.len() < detail.len() { "..." } else { "" };
        text += &format!(" \"{}{dots}\"", visible(&short));
    }
    if let Some(age) = phone.outcome_age_seconds {
        text += &format!(" {} ago", span(age));
    }
    if phone.failures > 1 {
        text += &format!(" ({} times)", phone.failures);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phone() -> Phone {
        Phone {
            aor: "204@pbx.example.com".to_owned(),
            address: "192.0.2.7:5060".to_owned(),
            transport: "udp".to_owned(),
            user_agent: "Yealink".to_owned(),
            registered: true,
            reachable: true,
            expires_seconds: Some(287.0),
            target: "a.pbx.example.com:5060".to_owned(),
            outcome: "success".to_owned(),
            code: Some(200),
            cause: None,
            detail: None,
            outcome_age_seconds: None,
            failures: 0,
        }
    }

    #[test]
    fn outcomes_in_words() {
        assert_eq!(outcome(&phone()), "registered 200");
        let rejected = Phone {
            registered: false,
            outcome: "rejected".to_owned(),
            code: Some(403),
            detail: Some("Forbidden\x1b[2J".to_owned()),
            outcome_age_seconds: Some(12.0),
            failures: 4,
            ..phone()
        };
        assert_eq!(outcome(&rejected), "rejected 403 \"Forbidden\\u{1b}[2J\" 12 s ago (4 times)");
        let silent = Phone { outcome: "failed".to_owned(), code: None, cause: Some("timeout".to_owned()), ..phone() };
        assert_eq!(outcome(&silent), "failed: timeout");
        let lost = Phone { reachable: false, ..phone() };
        assert_eq!(row(&lost)[4], "4 min 47 s, connection lost");
    }
}
