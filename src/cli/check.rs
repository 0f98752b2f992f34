//! `holdline run --check`: everything that can be found out without serving.

use super::Failure;
use super::args::RunArgs;
use crate::config::{Config, ConfigError, Note, Origin, writable_directory};
use crate::upstream::Source;

/// Validates, prints a short summary on standard output, and changes nothing.
pub(super) fn check(args: &RunArgs) -> Result<(), Failure> {
    let config = args.config()?;
    if let Some(path) = &config.state_dir {
        writable_directory(path).map_err(|why| ConfigError {
            key: "state_dir".to_owned(),
            value: Some(path.display().to_string()),
            origin: Origin::Default,
            remedy: why.into(),
        })?;
    }
    println!("configuration is valid");
    println!("upstream  {}", upstream(&config));
    for listen in &config.transport.listen {
        println!("phones    {} {}", listen.transport, listen.addr);
    }
    println!("admin     {}", config.admin);
    for Note { warning, text } in &config.notes {
        println!("{}      {text}", if *warning { "WARN" } else { "note" });
    }
    Ok(())
}

/// What requests will be sent to, in words.
pub(super) fn upstream(config: &Config) -> String {
    let transport = config.upstream.transport;
    match &config.upstream.source {
        Source::Srv { name } => format!("SRV record {name} over {transport}"),
        Source::Static { host, port } => {
            let port = port.map_or(String::new(), |port| format!(":{port}"));
            format!("outbound proxy {host}{port} over {transport}")
        }
    }
}
