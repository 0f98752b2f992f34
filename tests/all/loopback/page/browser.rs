//! Headless Chromium, driven by `tests/browser/drive.mjs`.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use crate::support::installed::{found, installed, not_run};

/// Longer than the browser's own patience.
const PATIENCE: Duration = Duration::from_secs(90);

/// A running browser with one page. It ends, and what it kept on disk goes, when its orders end, whichever way the test ends.
pub(super) struct Browser {
    _child: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

/// Where `scripts/test-deps.sh` installs what drives the browser, and where pictures go.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/browser")
}

/// True where all is there that a test with a browser needs; see [`installed`].
pub(super) fn there_is_a_browser(test: &str) -> bool {
    let modules = ["playwright-core", "axe-core"];
    let missing: Vec<&str> =
        modules.into_iter().filter(|module| !folder().join("node_modules").join(module).is_dir()).collect();
    installed(test, &["chromium", "node"]) && (missing.is_empty() || not_run(test, &missing))
}

impl Browser {
    pub(super) fn start() -> Browser {
        let chromium = found("chromium").expect("chromium on the path");
        let mut child = Command::new("node")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/drive.mjs"))
            .args([folder(), chromium])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let orders = child.stdin.take().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap()).lines();
        Browser { _child: child, orders, answers }
    }

    async fn order(&mut self, order: Value) -> Result<Value, String> {
        self.orders.write_all(format!("{order}\n").as_bytes()).await.unwrap();
        let line = timeout(PATIENCE, self.answers.next_line()).await.unwrap_or_else(|_| panic!("no answer to {order}"));
        let answer: Value = serde_json::from_str(&line.unwrap().expect("the browser lives")).unwrap();
        match answer.get("error") {
            Some(error) => Err(format!("{order}: {error}")),
            None => Ok(answer["ok"].clone()),
        }
    }

    async fn done(&mut self, order: Value) -> Value {
        match self.order(order).await {
            Ok(answer) => answer,
            Err(error) => panic!("{error}"),
        }
    }

    /// Loads a page.
    pub(super) async fn open(&mut self, url: &str) {
        self.done(json!({ "do": "open", "url": url })).await;
    }

    /// `light` or `dark`, and the size of the window.
    pub(super) async fn look(&mut self, scheme: &str, width: u32, height: u32) {
        self.done(json!({ "do": "look", "scheme": scheme, "width": width, "height": height })).await;
    }

    /// Waits until an expression is true, looking often; else shows what the page says.
    pub(super) async fn until(&mut self, expression: &str) {
        if let Err(error) = self.order(json!({ "do": "wait", "until": expression })).await {
            let says = self.order(json!({ "do": "get", "value": "document.body.innerText" })).await;
            panic!("never {expression}: {error}; the page says: {says:?}");
        }
    }

    /// The value of an expression.
    pub(super) async fn get(&mut self, expression: &str) -> Value {
        self.done(json!({ "do": "get", "value": expression })).await
    }

    /// What axe-core finds wrong.
    pub(super) async fn violations(&mut self) -> Vec<String> {
        serde_json::from_value(self.done(json!({ "do": "axe" })).await).unwrap()
    }

    /// A picture of the whole page, for people: `target/browser/shots`.
    pub(super) async fn picture(&mut self, name: &str) {
        let shots = folder().join("shots");
        std::fs::create_dir_all(&shots).unwrap();
        self.done(json!({ "do": "shot", "file": shots.join(format!("{name}.png")) })).await;
    }

    /// Every URL the browser asked for went to this origin, and the page complained about nothing.
    pub(super) async fn stayed_at(&mut self, origin: &str) {
        let seen = self.done(json!({ "do": "seen" })).await;
        let requested = seen["requested"].as_array().unwrap();
        assert!(requested.iter().any(|url| url.as_str().unwrap().ends_with("/events")), "{seen:#}");
        let own = |url: &&Value| {
            let url = url.as_str().unwrap();
            !url.starts_with(&format!("{origin}/")) && !url.starts_with("data:")
        };
        let elsewhere: Vec<&Value> = requested.iter().filter(own).collect();
        assert!(elsewhere.is_empty(), "{elsewhere:?}");
        assert_eq!(seen["complaints"], json!([]));
    }
}
