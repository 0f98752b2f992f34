//! Certificates, keys and authorities are read again when their files change.
//!
//! What is compared is content, not times: a Kubernetes volume changes by a swap of a symbolic link, and a tool may rewrite a
//! file with what it held before. A pair caught half-written is refused by the transports, which keep the old one; the
//! other half is the next change.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use ring::digest::{Context, SHA256};
use tokio::signal::unix::Signal;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use crate::driver::Request;
use crate::transport::TlsSettings;

/// Files are looked at this often. A new certificate is good for weeks.
const EVERY: Duration = Duration::from_secs(10);

/// Watches the files of these settings for as long as somebody takes the requests; at once on SIGHUP.
pub(super) async fn watch(settings: TlsSettings, requests: mpsc::Sender<Request>, mut hangup: Signal) {
    let files = files(&settings);
    if files.is_empty() {
        return;
    }
    let mut seen = look(&files).await;
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let told = tokio::select! {
            _ = ticks.tick() => false,
            received = hangup.recv() => received.is_some(),
        };
        let now = look(&files).await;
        if now == seen && !told {
            continue;
        }
        seen = now;
        if requests.send(Request::ReloadTls(Box::new(settings.clone()))).await.is_err() {
            return;
        }
    }
}

fn files(settings: &TlsSettings) -> Vec<PathBuf> {
    let TlsSettings { domain: _, verify: _, ca, ca_only, client_cert, client_key, server_cert, server_key } = settings;
    [ca, ca_only, client_cert, client_key, server_cert, server_key].into_iter().flatten().cloned().collect()
}

/// A digest of what all files hold, read where waiting for a disk holds nobody up. A file that cannot be read is told
/// from an empty one.
async fn look(files: &[PathBuf]) -> Option<Vec<u8>> {
    let files = files.to_vec();
    tokio::task::spawn_blocking(move || {
        let mut digest = Context::new(&SHA256);
        for file in files {
            match fs::read(file) {
                Ok(bytes) => {
                    digest.update(&(bytes.len() as u64).to_be_bytes());
                    digest.update(&bytes);
                }
                Err(_) => digest.update(&u64::MAX.to_be_bytes()),
            }
        }
        digest.finish().as_ref().to_vec()
    })
    .await
    .ok()
}
