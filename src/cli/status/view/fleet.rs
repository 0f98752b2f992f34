//! This instance among several.

use serde::Deserialize;

use crate::cli::terminal::{span, visible};

/// What `/status` says of it.
#[derive(Debug, Deserialize)]
pub(super) struct Cluster {
    usable: bool,
    away: Option<String>,
    away_seconds: Option<f64>,
    standing: String,
    target: Option<String>,
    decided_by: Option<String>,
    #[serde(default)]
    instances: Vec<String>,
}

/// One line, or two where something is to be done.
pub(super) fn lines(cluster: &Cluster) -> Vec<String> {
    let target = cluster.target.as_deref().map_or("?".to_owned(), visible);
    let standing = match &*cluster.standing {
        "with" => {
            let by =
                cluster.decided_by.as_deref().map_or(String::new(), |by| format!(", where {} put it", visible(by)));
            format!("with {} at {target}{by}", instances(cluster.instances.len()))
        }
        "diverged" => format!("WENT ALONE: the fleet is at {target}; holdline rejoin; see docs/runbook.md#diverged"),
        "no_such_target" => {
            format!("ALONE: DNS does not name the fleet's target {target}; see docs/runbook.md#diverged")
        }
        "unheard" => "moved, and the fleet does not know yet".to_owned(),
        other => visible(other),
    };
    let mut lines = vec![format!("fleet        {standing}")];
    if !cluster.usable {
        let why = cluster.away.as_deref().map_or(String::new(), visible);
        let since = span(cluster.away_seconds.unwrap_or(0.0));
        lines.push(format!("             its memory is AWAY for {since}: {why}; see docs/runbook.md#cluster-away"));
    }
    lines
}

fn instances(many: usize) -> String {
    if many == 1 { "1 instance".to_owned() } else { format!("{many} instances") }
}
