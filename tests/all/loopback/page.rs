//! The status page in headless Chromium, with a real Holdline and real registrars behind it.

mod browser;

use holdline::agents::dns::Mode;
use holdline::agents::phone::{self, RegisterOutcome};
use holdline::flow::Transport;
use serde_json::{Value, json};

use super::mocked::{Mocked, mocked};
use super::process::Holdline;
use super::server::Cast;
use super::stage::{Setup, Theatre, cast, phone, registered};
use crate::transport::certificates::Authority;
use browser::{Browser, there_is_a_browser};

/// Each REGISTER of a phone is one attempt, and is answered at once.
const ONE_BY_ONE: [&str; 2] = ["--retry=false", "--exhausted=503"];

fn origin(holdline: &Holdline) -> String {
    format!("http://{}", holdline.admin())
}

/// A browser that shows the page of a Holdline, live.
async fn open(holdline: &Holdline) -> Browser {
    let mut browser = Browser::start();
    browser.open(&format!("{}/", origin(holdline))).await;
    browser.until("document.querySelector('#live').dataset.state === 'live'").await;
    browser
}

/// Whether an element's text contains this.
fn says(selector: &str, text: &str) -> String {
    format!("document.querySelector({}).textContent.includes({})", json!(selector), json!(text))
}

#[tokio::test]
async fn page_shows_a_rollover_as_it_happens() {
    if !there_is_a_browser("loopback::page::page_shows_a_rollover_as_it_happens") {
        return;
    }
    let stage = Setup::new().with(&ONE_BY_ONE).start().await;
    let [a, b] = [stage.labels[0].as_str(), stage.labels[1].as_str()];
    let mut browser = open(&stage.holdline).await;
    browser.until(&says("#headline", &format!("Phones are at {a}, the first choice"))).await;
    browser.get("window.loadedOnce = true").await;
    let order = browser.get("[...document.querySelectorAll('.target')].map(t => t.dataset.target)").await;
    assert_eq!(order, json!([a, b]), "in order");
    assert_eq!(browser.get("document.querySelectorAll('.lamp').length").await, 3, "as many lamps as the threshold");

    let eve = stage.phone("eve-4711");
    registered(eve.register().await);
    browser.until(&says("#phones", "registered1")).await;
    browser.until("document.querySelector('#outcomes rect.success') !== null").await;

    stage.servers[0].behave("answer 503").await;
    for lit in 1..=2 {
        assert_eq!(eve.register().await, RegisterOutcome::Rejected(500));
        browser.until(&format!("document.querySelectorAll('.target.active .lamp.lit').length === {lit}")).await;
    }
    browser.until(&says("#headline", &format!("2 failures in a row at {a}"))).await;
    browser.until(&says(".target.active .strikes", "answered 503 “Service Unavailable”")).await;
    browser.look("light", 1280, 900).await;
    browser.picture("two-strikes").await;

    stage.servers[0].behave("refuse").await;
    assert!(!eve.register().await.is_registered());
    browser.until(&says("#headline", &format!("Phones are at {b}, number 2 in the order"))).await;
    browser.until(&says(".target.active", b)).await;
    let told =
        browser.get("[...document.querySelectorAll('#events .event:first-child li')].map(l => l.textContent)").await;
    let told: Vec<String> = serde_json::from_value(told).unwrap();
    assert_eq!(told.len(), 2, "identical causes are one line: {told:?}");
    assert!(told[0].contains("answered 503") && told[0].ends_with(", 2 times"), "{told:?}");
    assert!(told[1].contains("refused"), "{told:?}");
    assert!(
        browser
            .get(&says("#events .event:first-child", "3 failures in a row; 1 phone failed"))
            .await
            .as_bool()
            .unwrap()
    );
    assert_eq!(browser.get("document.querySelectorAll('.lamp.lit').length").await, 0, "the count is zero again");
    assert_eq!(browser.get("document.querySelectorAll('#outcomes line.rolled').length").await, 1);

    registered(eve.register().await);
    browser.until(&says("#events .event:first-child", b)).await;
    browser.picture("rolled-over").await;
    assert_eq!(browser.get("window.loadedOnce").await, true, "all of it without loading again");
    let html = browser.get("document.documentElement.outerHTML").await.to_string();
    let address = eve.local().await.unwrap().to_string();
    assert!(!html.contains("eve-4711") && !html.contains(&address), "nobody learns who phones");
    browser.stayed_at(&origin(&stage.holdline)).await;
}

#[tokio::test]
async fn page_waits_for_dns_and_shows_it_come() {
    if !there_is_a_browser("loopback::page::page_waits_for_dns_and_shows_it_come") {
        return;
    }
    let setup = Setup { servers: cast(&["a"]), ..Setup::new() }.with(&ONE_BY_ONE);
    let theatre = Theatre::open(&setup).await;
    theatre.dns.set_mode(Mode::ServFail);
    let holdline = Holdline::start(&theatre.arguments(&setup)).await;
    let stage = theatre.with(holdline);
    let mut browser = open(&stage.holdline).await;
    browser.until(&says("#headline", "No targets yet")).await;
    browser.until(&says("#since", "SERVFAIL")).await;
    browser.until(&says("#dns", "no answer yet")).await;
    let violations = browser.violations().await;
    assert!(violations.is_empty(), "{violations:#?}");
    browser.picture("no-dns").await;

    stage.dns.set_mode(Mode::Answer);
    browser.until(&says("#headline", "the first choice")).await;
    browser.until(&says("#dns", "fresh")).await;
    stage.servers[0].behave("answer 503").await;
    assert_eq!(stage.phone("100").register().await, RegisterOutcome::Rejected(500));
    browser.until(&says("#headline", "there is no other target")).await;
    browser.stayed_at(&origin(&stage.holdline)).await;
}

#[tokio::test]
async fn page_of_an_outbound_proxy() {
    if !there_is_a_browser("loopback::page::page_of_an_outbound_proxy") {
        return;
    }
    let holdline = Holdline::start(&["--outbound-proxy=127.0.0.1:9".to_owned()]).await;
    let mut browser = open(&holdline).await;
    browser.until(&says("#headline", "Phones are at 127.0.0.1:9")).await;
    browser.until(&says("#dns", "none: an address")).await;
    browser.until(&says("#numbers", "Nothing in the last hour")).await;
    browser.stayed_at(&origin(&holdline)).await;
}

/// A Holdline that goes, and the page says so.
#[tokio::test]
async fn page_says_when_nothing_comes_any_more() {
    if !there_is_a_browser("loopback::page::page_says_when_nothing_comes_any_more") {
        return;
    }
    let stage = Setup::new().start().await;
    let mut browser = open(&stage.holdline).await;
    stage.holdline.kill().await;
    browser.until("document.querySelector('#live').dataset.state === 'lost'").await;
    browser.until("document.body.classList.contains('stale')").await;
    assert!(browser.get(&says("#headline", "first choice")).await.as_bool().unwrap(), "what was last known stays");
}

/// Everything that can be on the page, drawn from a made report, in both schemes and at both widths.
#[tokio::test]
async fn page_is_accessible_in_light_and_dark_and_on_a_phone() {
    if !there_is_a_browser("loopback::page::page_is_accessible_in_light_and_dark_and_on_a_phone") {
        return;
    }
    let stage = Setup::new().start().await;
    let mut browser = open(&stage.holdline).await;
    for (state, word) in [("good", "OK"), ("note", "ROLLED OVER"), ("warn", "WATCH"), ("bad", "ALARM")] {
        browser.get(&show(&made(state))).await;
        browser.until(&format!("document.querySelector('#verdict').dataset.level === '{state}'")).await;
        assert!(browser.get(&says("#level", word)).await.as_bool().unwrap(), "{state}");
        for (scheme, width, height) in
            [("light", 1280, 900), ("dark", 1280, 900), ("light", 380, 800), ("dark", 380, 800)]
        {
            browser.look(scheme, width, height).await;
            let violations = browser.violations().await;
            assert!(violations.is_empty(), "{state}, {scheme}, {width}: {violations:#?}");
            let wider = browser.get("document.documentElement.scrollWidth - window.innerWidth").await;
            assert!(wider.as_i64().unwrap() <= 0, "{state}, {width}: {wider} wider than the window");
            browser.picture(&format!("{state}-{scheme}-{width}")).await;
        }
    }
    browser.get("document.querySelector('details').open = true").await;
    for scheme in ["dark", "light"] {
        browser.look(scheme, 380, 800).await;
        let violations = browser.violations().await;
        assert!(violations.is_empty(), "the table, {scheme}: {violations:#?}");
        let wider = "document.querySelector('table').scrollWidth - document.querySelector('#numbers').clientWidth";
        assert!(browser.get(wider).await.as_i64().unwrap() <= 0, "the table is wider than a phone");
    }
    browser.picture("table-light-380").await;
    assert_eq!(browser.get("document.querySelectorAll('tbody tr').length").await, 57);
}

#[tokio::test]
async fn page_in_an_alarm_says_why_and_nothing_contradicts_it() {
    if !there_is_a_browser("loopback::page::page_in_an_alarm_says_why_and_nothing_contradicts_it") {
        return;
    }
    let stage = Setup::new().start().await;
    let mut browser = open(&stage.holdline).await;
    let mut report = made("bad");
    report["registrations"]["in_trouble"] = 17.into();
    report["instance"] = "branch-berlin".into();
    report["store"] = json!({ "writable": false });
    report["config"] = json!({ "refused": "failures = \"0\" (holdline.toml:3): must be from 1" });
    report["upstream"]["targets"][0]["certificate_not_after"] = 1_500_000_000.into();
    // Names in DNS come and go; the rollovers stay in sight.
    let events = report["upstream"]["events"].as_array_mut().unwrap();
    events.extend((0..60).map(|n| json!({ "event": "dns_recovered", "age_seconds": 900 - n })));
    browser.get(&show(&report)).await;
    browser.until("document.querySelector('#verdict').dataset.level === 'bad'").await;
    for (selector, text) in [
        ("#why", "a.pbx.example.com:5061: no answer in time, answered 503"),
        ("#runbook", "docs/runbook.md, All targets fail"),
        ("#phones", "in trouble17"),
        ("#instance", "branch-berlin"),
        ("#besides", "state not kept"),
        ("#besides", "settings refused the old ones stay: failures"),
        (".target", "certificate ended on 2017-07-14"),
        ("#events", "Rolled over to b.pbx.example.com:5061"),
    ] {
        assert!(browser.get(&says(selector, text)).await.as_bool().unwrap(), "{selector}: {text}");
    }
    assert!(!browser.get(&says("body", "0 of 3")).await.as_bool().unwrap());
    let green = "(() => { const probe = document.body.appendChild(document.createElement('i')); const all = ['--good', '--good-tint', \
                 '--success'].map(name => { probe.style.color = `var(${name})`; return getComputedStyle(probe).color; }); probe.remove(); \
                 const looks = e => [null, '::before'].flatMap(p => { const s = getComputedStyle(e, p); return [s.color, s.backgroundColor]; }); \
                 return [...document.querySelectorAll('header *, #verdict, #verdict *, #targets *')].filter(e => looks(e).some(c => \
                 all.includes(c))).length; })()";
    for scheme in ["light", "dark"] {
        browser.look(scheme, 1280, 900).await;
        assert_eq!(browser.get(green).await, 0, "{scheme}");
    }
}

/// Puts a report in the place of the live ones.
fn show(report: &Value) -> String {
    // Nothing that comes later takes its place.
    format!("source.close(); report = {report}; arrived = performance.now(); render()")
}

/// A report with something of everything, in one of the four states.
fn made(state: &str) -> Value {
    let strike = |age: u32, cause: &str, code: Option<u16>, detail: Option<&str>| json!({ "age_seconds": age, "cause": cause, "code": code, "detail": detail });
    let unavailable = Some("Service Unavailable");
    let on_second = state != "good" && state != "warn";
    let failures = if state == "warn" { 2 } else { 0 };
    let counted = [strike(21, "timeout", None, None), strike(9, "response", Some(503), unavailable)];
    let certificate = "TLS with 192.0.2.1:5061 (a.pbx.example.com): the certificate is not valid for pbx.example.com; it is \
                       valid for *.example.net, example.net";
    let [a, b, c] = ["a", "b", "core3-longer-than-most-names"].map(|name| format!("{name}.pbx.example.com:5061"));
    let target = |label: &str, number: u32, active: bool| {
        json!({
            "target": label, "priority": 10 * number, "weight": 100, "active": active,
            "addresses": [format!("192.0.2.{number}"), "2001:db8::17"],
            "failures": if active { failures } else { 0 },
            "struck_out": state == "bad", "missing_in_dns": state == "bad" && active,
        })
    };
    json!({
        "holdline": { "version": "0.2.0", "revision": "0123abc", "uptime_seconds": 190_000 },
        "upstream": {
            "source": "_sip._tls.pbx.example.com", "kind": "srv", "transport": "tls", "selection": "highest-weight",
            "ready": true, "active": if on_second { &b } else { &a }, "active_seconds": 1000.4, "epoch": 2,
            "failures": failures, "failing_handsets": failures, "strikes": &counted[..failures],
            "failover_threshold": 3, "min_handsets": if state == "warn" { 2 } else { 1 },
            "all_targets_failed": state == "bad",
            "targets": [target(&a, 1, !on_second), target(&b, 2, on_second), target(&c, 3, false)],
            "dns": {
                "stale": state == "bad", "ttl_seconds": 300, "age_seconds": 12.1, "next_lookup_seconds": 287.9,
                "failures": if state == "bad" { 4 } else { 0 },
                "outcome": if state == "bad" { "servfail" } else { "ok" },
                "detail": (state == "bad").then_some("the name servers could not find out (SERVFAIL)"),
            },
            "events": [
                { "event": "targets_changed", "age_seconds": 4000, "added": [&a, &b], "removed": [&c] },
                { "event": "dns_failing", "age_seconds": 3000, "outcome": "timeout", "detail": "no name server answered" },
                { "event": "dns_recovered", "age_seconds": 2800 },
                { "event": "strikes_voided", "age_seconds": 2500, "target": &a, "failures": 3 },
                { "event": "rollover", "age_seconds": 1900, "from": &b, "to": &a, "reason": "manual", "epoch": 1,
                  "failures": 0, "handsets": 0, "strikes": [] },
                { "event": "rollover", "age_seconds": 1000, "from": &a, "to": &b, "reason": "register_failures", "epoch": 2,
                  "failures": 3, "handsets": 3,
                  "strikes": [strike(1008, "timeout", None, None), strike(1004, "response", Some(503), unavailable),
                              strike(1000, "tls", None, Some(certificate))] },
            ],
        },
        "flows": [
            { "side": "phone", "transport": "tcp", "connections": 31 },
            { "side": "phone", "transport": "tls", "connections": 204 },
            { "side": "upstream", "transport": "tls", "connections": 1 },
        ],
        "bindings": { "count": 1048, "orphaned": if on_second { 212 } else { 0 }, "limit": 65_536 },
        "transactions": { "count": 12, "limit": 65_536 },
        "registrations": {
            "last_hour": { "success": 9432, "challenged": 480, "rejected": 57, "failed": 61 },
            "latency_last_hour": { "mean_ms": 23, "max_ms": 310 },
        },
        "history": history(),
        "draining": false,
    })
}

/// An hour with three empty minutes at its beginning, and an outage of three.
fn history() -> Value {
    let outage = |n: u32| (40..43).contains(&n);
    let column = |of: &dyn Fn(u32) -> u32| (0..60).map(|n| if n < 3 { 0 } else { of(n) }).collect::<Vec<_>>();
    let answered = |of: &dyn Fn(u32) -> u32| (0..60).map(|n| (n >= 3).then(|| of(n))).collect::<Vec<_>>();
    json!({
        "running_seconds": 31.0,
        "success": column(&|n| if outage(n) { 12 } else { 150 + n * 37 % 41 }),
        "challenged": column(&|n| 6 + n * 13 % 9),
        "rejected": column(&|n| n % 3),
        "failed": column(&|n| if outage(n) { 22 + n % 5 } else { 0 }),
        "mean_ms": answered(&|n| 18 + n * 7 % 11),
        "max_ms": answered(&|n| if n == 43 { 310 } else { 40 + n * 31 % 90 }),
    })
}

/// A script that would run if any of these were taken for HTML: an image that cannot be loaded.
const HOSTILE: &str = "<img src=x onerror=window.pwned=1>";

#[tokio::test]
async fn page_escapes_a_hostile_target_name_and_reason_phrase() {
    if !there_is_a_browser("loopback::page::page_escapes_a_hostile_target_name_and_reason_phrase") {
        return;
    }
    let name = "<img src=x onerror=pwned()>.pbx.example";
    let reason = format!("{HOSTILE}</script><script>window.pwned=2</script>\u{202e}");
    let Mocked { holdline, .. } = &mocked(&[name], 503, &reason, &ONE_BY_ONE).await;
    let mut browser = open(holdline).await;
    let phone = phone(holdline, "100", |options| options);
    for _ in 0..2 {
        assert!(!phone.register().await.is_registered());
    }
    browser.until(&says(".target.active .strikes li", "2 times")).await;
    let told = format!("{HOSTILE}</script><script>window.pwned=2</script>\\u{{202e}}");
    browser.until(&says(".target.active .strikes", &told)).await;
    assert!(!phone.register().await.is_registered());
    browser.until(&says("#events .event:first-child .strikes li", "3 times")).await;
    // With the escapes that DNS names are written with; what matters is that all of it is text.
    for place in ["#headline", ".target.active .name", "#events .event:first-child h3"] {
        browser.until(&says(place, "\\<img\\040src\\=x\\040onerror")).await;
    }
    browser.picture("hostile").await;
    harmless(&mut browser, &origin(holdline)).await;
}

/// Whatever Holdline may come to report one day: no text of a report is taken for HTML, wherever it stands.
#[tokio::test]
async fn page_escapes_every_text_of_a_report() {
    if !there_is_a_browser("loopback::page::page_escapes_every_text_of_a_report") {
        return;
    }
    let stage = Setup::new().start().await;
    let mut browser = open(&stage.holdline).await;
    for state in ["good", "note", "warn", "bad"] {
        let mut report = made(state);
        spoil(&mut report, "");
        browser.get(&show(&report)).await;
        browser.until(&says("#headline", HOSTILE)).await;
        for place in ["#source", "#targets", "#events", "#connections", "#footer"] {
            assert!(browser.get(&says(place, HOSTILE)).await.as_bool().unwrap(), "{place}, {state}");
        }
    }
    assert!(browser.get(&says("#dns", HOSTILE)).await.as_bool().unwrap());
    browser.picture("spoilt").await;
    harmless(&mut browser, &origin(&stage.holdline)).await;
}

/// Every text becomes hostile but those that say what kind of thing this is.
fn spoil(value: &mut Value, name: &str) {
    match value {
        Value::String(text) if !["event", "cause", "reason"].contains(&name) => *text = format!("{HOSTILE}{text}"),
        Value::Array(items) => items.iter_mut().for_each(|item| spoil(item, name)),
        Value::Object(fields) => fields.iter_mut().for_each(|(name, value)| spoil(value, name)),
        _ => {}
    }
}

#[tokio::test]
async fn page_escapes_a_hostile_certificate() {
    if !there_is_a_browser("loopback::page::page_escapes_a_hostile_certificate") {
        return;
    }
    let authority = Authority::new("page");
    let files = authority.self_signed(HOSTILE, &["pbx.example"], false);
    let with_tls = |cast: Cast| Cast { tls: Some((files.cert.clone(), files.key.clone())), ..cast };
    let servers = cast(&["a", "b"]).into_iter().map(with_tls).collect();
    let setup = Setup { name: "_sip._tls.pbx.example", transport: Transport::Tls, servers, ..Setup::new() };
    let stage =
        setup.with(&ONE_BY_ONE).with(&[&format!("--upstream-ca-only={}", authority.file.display())]).start().await;
    let mut browser = open(&stage.holdline).await;
    assert!(!stage.phone_like("100", |options| phone::Options { ..options }).register().await.is_registered());
    browser.until(&says(".target.active .strikes", HOSTILE)).await;
    assert!(browser.get(&says(".target.active .strikes", "self-signed")).await.as_bool().unwrap());
    browser.picture("certificate").await;
    harmless(&mut browser, &origin(&stage.holdline)).await;
}

/// Nothing of it ran, became an element, or was asked for.
async fn harmless(browser: &mut Browser, origin: &str) {
    assert_eq!(browser.get("typeof window.pwned").await, "undefined");
    assert_eq!(
        browser.get("document.querySelectorAll('img, script:not(:last-of-type), iframe, [onerror]').length").await,
        0
    );
    browser.stayed_at(origin).await;
}

/// The README's pictures: a rollover, a quarter of an hour later. With `HOLDLINE_BLESS` set they are made anew.
#[tokio::test]
async fn page_is_what_the_readme_shows() {
    if !there_is_a_browser("loopback::page::page_is_what_the_readme_shows") {
        return;
    }
    let stage = Setup::new().start().await;
    let mut browser = open(&stage.holdline).await;
    let mut report = made("note");
    // The rollover alone, so that the picture is not too long.
    let events = report["upstream"]["events"].as_array_mut().unwrap();
    events.drain(..events.len() - 1);
    browser.get(&show(&report)).await;
    browser.until("document.querySelector('#verdict').dataset.level === 'note'").await;
    for scheme in ["light", "dark"] {
        browser.look(scheme, 860, 800).await;
        browser.picture(&format!("page-{scheme}")).await;
        let name = format!("page-{scheme}.png");
        let here = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/images/");
        let made = concat!(env!("CARGO_MANIFEST_DIR"), "/target/browser/shots/");
        if std::env::var_os("HOLDLINE_BLESS").is_some() {
            std::fs::copy(format!("{made}{name}"), format!("{here}{name}")).unwrap();
        }
        // Fonts differ between machines, so that only the width is the same everywhere.
        let width =
            |file: String| std::fs::read(&file).unwrap_or_else(|error| panic!("{file}: {error}"))[16..20].to_vec();
        assert_eq!(width(format!("{here}{name}")), width(format!("{made}{name}")), "{name}");
    }
}
