//! What the configuration file and the files it names hold, as digests that can be compared.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use ring::digest::{SHA256, digest};

/// What each file holds, as a digest. A file that cannot be read (`None`) differs from an empty one.
pub(super) type Contents = BTreeMap<PathBuf, Option<Vec<u8>>>;

/// The files are read on a thread where waiting for a disk delays nothing else.
pub(super) async fn look(files: Vec<PathBuf>) -> Contents {
    let contents = |file: PathBuf| {
        let bytes = fs::read(&file).ok();
        (file, bytes.map(|bytes| digest(&SHA256, &bytes).as_ref().to_vec()))
    };
    let looked = tokio::task::spawn_blocking(move || files.into_iter().map(contents).collect());
    looked.await.unwrap_or_default()
}
