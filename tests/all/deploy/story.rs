//! The real Prometheus, with the shipped rules and the dashboard's expressions, scraping a real Holdline whose PBX dies.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use holdline::flow::Transport;
use serde_json::Value;

use super::rules::{known, list, metrics_in};
use super::tools::{installed, read};
use crate::peers::holdline::Holdline;
use crate::peers::kamailio::Kamailio;
use crate::peers::sipp::{Plan, Sipp};
use crate::peers::tls::Authority;
use crate::support::http;
use crate::support::ports::free_address;
use crate::support::process::{Process, Signal};
use crate::support::wait::within;

/// Longer than any range in the rules that this story touches.
const PATIENCE: Duration = Duration::from_secs(420);

struct Prometheus {
    process: Process,
    at: SocketAddr,
}

impl Prometheus {
    /// Scrapes and evaluates every second, with the shipped rules, in which only `for` is shortened: but an hour stays one, of which
    /// this story has none.
    fn start(holdline: SocketAddr) -> Prometheus {
        let folder = tempfile::tempdir().unwrap();
        let rules: Vec<String> = read("deploy/prometheus/rules.yml")
            .lines()
            .map(|line| {
                let rule = line.trim_start();
                let indent = &line[..line.len() - rule.len()];
                if rule.starts_with("for: ") && rule != "for: 1h" {
                    format!("{indent}for: 3s")
                } else {
                    line.to_owned()
                }
            })
            .collect();
        std::fs::write(folder.path().join("rules.yml"), rules.join("\n")).unwrap();
        let config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [rules.yml]\nscrape_configs:\n  \
             - job_name: holdline\n    static_configs: [{{targets: ['{holdline}']}}]\n"
        );
        std::fs::write(folder.path().join("prometheus.yml"), config).unwrap();
        let at = free_address();
        let arguments =
            ["--config.file=prometheus.yml", "--storage.tsdb.path=data", &format!("--web.listen-address={at}")];
        let process = Process::start(folder, "prometheus", &arguments.map(str::to_owned)).unwrap();
        Prometheus { process, at }
    }

    async fn get(&self, path: &str) -> Option<Value> {
        serde_json::from_str(&http::get(self.at, path).await.ok()?.1).ok()
    }

    /// The series that an expression gives now, each with its value.
    async fn query(&self, expression: &str) -> Result<Vec<(Value, f64)>, String> {
        let mut path = String::from("/api/v1/query?query=");
        expression.bytes().for_each(|byte| write!(path, "%{byte:02X}").unwrap());
        let answer = self.get(&path).await.ok_or("no answer")?;
        if answer["status"] != "success" {
            return Err(answer.to_string());
        }
        let value = |one: &Value| one["value"][1].as_str().and_then(|text| text.parse().ok()).unwrap_or(f64::NAN);
        let result = &answer["data"]["result"];
        Ok(list(result).iter().map(|one| (one["metric"].clone(), value(one))).collect())
    }

    /// Waits until an expression gives at least one series.
    async fn until(&mut self, expression: &str) -> Vec<(Value, f64)> {
        let waited = within(PATIENCE, expression, async || {
            let ended = self.process.ended();
            assert!(ended.is_none(), "Prometheus ended with {ended:?}: {}", self.process.output());
            match self.query(expression).await {
                Ok(series) if !series.is_empty() => Ok(series),
                last => Err(format!("{last:?}")),
            }
        });
        match waited.await {
            Ok(series) => series,
            Err(late) => panic!("{late}; the alerts: {:?}", self.alerts().await),
        }
    }

    /// Alerts that are pending or firing. After the rollover a target of lower priority is active for good: that is no alarm.
    async fn alerts(&self) -> Option<BTreeSet<(String, String)>> {
        let answer = self.get("/api/v1/alerts").await.filter(|answer| answer["status"] == "success")?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let alerts = list(&answer["data"]["alerts"]).iter();
        let all = alerts.map(|alert| (text(&alert["labels"]["alertname"]), text(&alert["state"])));
        Some(all.filter(|(name, _)| name != "HoldlineOnLowerPriority").collect())
    }

    /// Waits until nothing is pending or firing, by the alerts themselves and by a whole round of evaluation.
    async fn quiet(&mut self) {
        let mut silent_since = None;
        let waited = within(PATIENCE, "no alert for three seconds", async || {
            let alerts = self.alerts().await;
            if !alerts.as_ref().is_some_and(BTreeSet::is_empty) {
                silent_since = None;
            } else if silent_since.get_or_insert_with(Instant::now).elapsed() > Duration::from_secs(3) {
                return Ok(());
            }
            Err(format!("{alerts:?}"))
        });
        waited.await.unwrap_or_else(|late| panic!("{late}"));
    }

    /// Waits until an alert fires. One with a `for` must have been pending before.
    async fn fires(&mut self, alert: &str, was_pending: bool) {
        let was = |state| format!("count_over_time(ALERTS{{alertname=\"{alert}\",alertstate=\"{state}\"}}[15m])");
        self.until(&was("firing")).await;
        if was_pending {
            assert!(
                !self.query(&was("pending")).await.unwrap().is_empty(),
                "{alert} fired without having been pending"
            );
        }
    }
}

/// Every expression of the dashboard with its panel's title, its variables replaced.
fn expressions() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(&read("deploy/grafana/holdline.json")).unwrap();
    let mut found = Vec::new();
    let mut add = |title: &Value, expression: &Value| {
        let plain = expression.as_str().unwrap().replace("$__rate_interval", "2m").replace("$__range", "10m");
        let plain = plain.replace("$job", ".+").replace("$instance", ".+");
        assert!(!plain.contains('$'), "{plain}");
        found.push((title.as_str().unwrap().to_owned(), plain));
    };
    for panel in list(&dashboard["panels"]) {
        for target in list(&panel["targets"]) {
            add(&panel["title"], &target["expr"]);
        }
    }
    for annotation in list(&dashboard["annotations"]["list"]) {
        add(&annotation["name"], &annotation["expr"]);
    }
    found
}

#[test]
fn the_dashboard_uses_only_metrics_that_exist() {
    let all = expressions();
    assert!(all.len() > 25, "{all:?}");
    let known = known();
    for (title, expression) in &all {
        let used = metrics_in(expression);
        assert!(used.is_subset(&known), "{title}: {expression}");
    }
    // On one screen nothing lies upon anything else, and Grafana finds each panel by its number.
    let dashboard: Value = serde_json::from_str(&read("deploy/grafana/holdline.json")).unwrap();
    let (mut places, mut ids) = (BTreeSet::new(), BTreeSet::new());
    for panel in list(&dashboard["panels"]) {
        let at = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        assert!(at("x") + at("w") <= 24, "{}", panel["title"]);
        for x in at("x")..at("x") + at("w") {
            for y in at("y")..at("y") + at("h") {
                assert!(places.insert((x, y)), "{} lies upon another", panel["title"]);
            }
        }
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{}", panel["title"]);
    }
}

/// What the dashboard must show of this story, by the panels' titles.
const TOUCHED: &[&str] = &[
    "Active target",
    "Rollovers in view",
    "Phones",
    "Registrations that succeed",
    "Since the last rollover",
    "DNS last answered",
    "Certificate ends in",
    "Active target over time",
    "REGISTER attempts by outcome",
    "Failed attempts by target and reason",
    "How long a REGISTER takes",
    "Tries again, and given up",
    "Requests from phones and from the PBX",
    "Answers 4xx to 6xx",
    "Connections",
    "How full",
    "Dropped and repeated",
    "Processor and memory",
    "Rollovers",
];

/// Phones register at the first PBX; it falls silent, then it is killed. Prometheus tells all of it, the alerts come and go, and
/// no phone has noticed. At the end Holdline itself goes, and comes back.
#[tokio::test]
async fn prometheus_tells_the_rollover_and_its_alerts_come_and_go() {
    let test = "deploy::story::prometheus_tells_the_rollover_and_its_alerts_come_and_go";
    if !installed(test, &["prometheus", "sipp", "kamailio"]) {
        return;
    }
    let authority = Authority::new();
    let first = Kamailio::start(&authority, 3600).await;
    let second = Kamailio::start(&authority, 3600).await;
    let mut holdline = Holdline::start(&[&first, &second], Transport::Udp, &authority, &[]).await;
    let mut prometheus = Prometheus::start(holdline.admin);
    prometheus.until("up{job=\"holdline\"} == 1").await;

    let plan = |transport, phones| Plan { phones, transport, expires: 1800, refreshes: 60, pause: 1000 };
    let mut udp = Sipp::start(&plan(Transport::Udp, 3), holdline.sip, None);
    let mut tcp = Sipp::start(&plan(Transport::Tcp, 2), holdline.sip, None);
    udp.each_granted(2).await;
    tcp.each_granted(2).await;
    prometheus.until("sum(holdline_bindings) == 5").await;
    prometheus.quiet().await;

    // Silence: strikes stand, then the next target is active.
    first.signal(Signal::Stop);
    prometheus.fires("HoldlineActiveTargetFailing", true).await;
    holdline.rolled_over(1.0).await;
    first.signal(Signal::Kill);
    prometheus.fires("HoldlineFailedOver", false).await;

    // The rollover, the reason, the counts.
    let (a, b) = (format!("pbx0.*:{}", first.sip.port()), format!("pbx1.*:{}", second.sip.port()));
    prometheus.until(&format!("holdline_target_active{{target=~\"{b}\"}} == 1")).await;
    prometheus.until(&format!("holdline_target_active{{target=~\"{a}\"}} == 0")).await;
    prometheus.until("sum by (reason) (holdline_failovers_total{reason=\"register_failures\"}) == 1").await;
    prometheus.until("sum(holdline_failovers_total) == 1").await;
    prometheus.until("time() - holdline_failover_last_timestamp_seconds < 300").await;
    let timeouts = format!("holdline_register_failures_total{{target=~\"{a}\",reason=\"timeout\"}} >= 3");
    prometheus.until(&timeouts).await;
    let other = format!("sum(holdline_register_failures_total{{target=~\"{b}\"}}) == 0");
    prometheus.until(&other).await;
    let granted = format!("holdline_register_attempts_total{{target=~\"{b}\",outcome=\"success\"}} >= 5");
    prometheus.until(&granted).await;
    prometheus.until("sum(holdline_register_retries_total) > 0").await;
    prometheus.until("sum(holdline_register_exhausted_total) == 0").await;

    // The dashboard, while it is fresh: every expression is one, and what was touched shows.
    let mut shows = BTreeSet::new();
    for (title, expression) in expressions() {
        let series =
            prometheus.query(&expression).await.unwrap_or_else(|error| panic!("{title}: {expression}: {error}"));
        if series.iter().any(|(_, value)| value.is_finite() && *value != 0.0) {
            shows.insert(title);
        }
    }
    let missing: Vec<_> = TOUCHED.iter().filter(|title| !shows.contains(**title)).collect();
    assert!(missing.is_empty(), "panels without a value: {missing:?}");

    udp.each_granted(40).await;
    udp.finish().await;
    tcp.finish().await;
    prometheus.quiet().await;

    // Holdline itself goes, and comes back.
    holdline.terminate();
    assert_eq!(holdline.ended().await, 0);
    prometheus.fires("HoldlineDown", true).await;
    prometheus.fires("HoldlineAbsent", true).await;
    holdline.start_again(env!("CARGO_BIN_EXE_holdline")).await;
    prometheus.quiet().await;
}
