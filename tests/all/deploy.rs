//! `deploy/` and `certs/`: everything is checked by the tools that people check such files with, and then run.
//!
//! `manifests` asks the schemas and the linters, `semantics` what those miss, `rules` Prometheus's own tool, `image` builds and
//! runs the image, `systemd` the units, `certs` the script; `chart` and `compose` their files, `workflows` those of GitHub; `revision`
//! is the commit a build names; `rotation`, `upgrade` and `story` are whole stories with real processes; `pitfalls`
//! is what has bitten others in Kubernetes. There is no cluster here: what that leaves open is said in `docs/scaling.md`.
#![allow(clippy::disallowed_methods, reason = "real tools live in real time")]

mod certs;
mod chart;
mod compose;
mod image;
mod manifests;
mod pitfalls;
mod revision;
mod rotation;
mod rules;
mod semantics;
mod story;
mod systemd;
mod tools;
mod upgrade;
mod workflows;
